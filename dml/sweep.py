"""Search for settings by the validation classes, with Optuna; the test classes are never embedded.

Everything that was tried stands in one file, so that a search that was stopped or killed goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.assembly import build_data, build_evaluator, build_model, build_objective, build_trainer
from dml.config import ConfigError, TrainConfig, settle
from dml.errors import OccupiedError
from dml.locks import lock_folder, unlock_folder
from dml.model import EmbeddingModel
from dml.retrieval import metric
from dml.run_folder import RunFolder
from dml.training import Logger, NonFiniteLossError

__all__ = ["SearchSpace", "check_space", "read_space", "run_sweep"]

Compose = Callable[[Sequence[str]], TrainConfig]


@dataclass
class SearchSpace:
    """What a file in configs/sweep/ says.

    parameters:     by dotted key, ``{low, high}`` with ``log: true`` or integers, or ``{choices: [...]}``.
    overrides:      what every trial has besides.
    seeds:          a trial is worth its mean over them.
    startup_trials: trials drawn at random before the search learns from them, and that are never pruned.
    """

    parameters: dict[str, Any] = MISSING
    overrides: list[str] = field(default_factory=list)
    seeds: list[int] = MISSING
    startup_trials: int = MISSING


def read_space(path: Path) -> SearchSpace:
    """Read and check a search space.

    Raises:
        ConfigError: there is no such file, or it is no search space.
    """
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml")))
        raise ConfigError(f"space={path.stem} does not exist; accepted: {known}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(SearchSpace), OmegaConf.load(path))
        space = cast(SearchSpace, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path} is no search space: {str(error).splitlines()[0]}") from error
    check_space(space)
    return space


def check_space(space: SearchSpace) -> None:
    """Refuse a space that cannot be drawn from.

    Raises:
        ConfigError: no parameter, no seed, or a range that is none.
    """
    if not space.parameters or not space.seeds:
        raise ConfigError("a search space needs parameters and seeds: give at least one of each")
    for key, options in space.parameters.items():
        if set(options) == {"choices"} and options["choices"]:
            continue
        low, high = options.get("low"), options.get("high")
        if set(options) - {"low", "high", "log"} or low is None or high is None or not low < high:
            raise ConfigError(
                f"parameters.{key}={options} is no range; accepted: {{low: 0.1, high: 0.9}}, with log: true, or "
                "{choices: [16, 64]}"
            )
        if options.get("log") and low <= 0:
            raise ConfigError(
                f"parameters.{key}.low={low} has no logarithm; give more than 0, or leave log out"
            )


def run_sweep(space: SearchSpace, folder: Path, compose: Compose, *, trials: int) -> Any:
    """Search until ``trials`` are done, those of earlier calls counted; returns the Optuna study.

    Trials that were cut off are tried again. A trial whose validation lies below the median of the others at the
    same point is pruned; one whose loss becomes infinite fails, and the search goes on.

    Raises:
        ConfigError: Optuna is missing, trials is below 1, the space does not fit, or the protocol leaves no
            classes to choose by.
        OccupiedError: another process searches in this folder.
    """
    optuna = _optuna()
    if trials < 1:
        raise ConfigError(f"trials={trials}: give at least 1")
    select_by = compose(space.overrides).trainer.select_by
    with _alone(folder):
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(folder / "trials.journal"))
        )
        study = optuna.create_study(
            storage=storage,
            study_name="sweep",
            direction="maximize" if metric(select_by).higher_is_better else "minimize",
            load_if_exists=True,
        )
        study.set_user_attr("select_by", select_by)
        _retry_cut_off(study, optuna)
        done = _count(study, optuna)
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=space.startup_trials, seed=done)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=space.startup_trials)
        if done < trials:
            study.optimize(
                lambda trial: _value(space, trial, folder, compose),
                n_trials=trials - done,
                catch=(NonFiniteLossError,),
            )
        return study


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError("a sweep needs Optuna, which is not installed: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes; a killed one lets go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not lock_folder(folder):
        raise OccupiedError(
            f"another process searches in {folder}: wait for it, stop it, or choose another by --folder"
        )
    try:
        yield
    finally:
        unlock_folder(folder)


def _retry_cut_off(study: Any, optuna: Any) -> None:
    """Queue again, once, what neither ended nor diverged."""
    cut_off = [optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.FAIL]
    for trial in study.get_trials(states=cut_off):
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        elif "diverged" in trial.user_attrs:
            continue
        if trial.params and not any(
            other.system_attrs.get("fixed_params") == trial.params for other in study.get_trials()
        ):
            study.enqueue_trial(trial.params)


def _count(study: Any, optuna: Any) -> int:
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return sum(trial.state in ended or "diverged" in trial.user_attrs for trial in study.get_trials())


def _value(space: SearchSpace, trial: Any, folder: Path, compose: Compose) -> float:
    """The best validation figure of a trial, in the mean over the seeds."""
    drawn = [f"{key}={_draw(trial, key, options)}" for key, options in space.parameters.items()]
    best: list[float] = []
    for seed in space.seeds:
        cfg = compose([*space.overrides, *drawn, f"seed={seed}"])
        watcher = _Pruner(
            trial, cfg.trainer.select_by, before=best, offset=len(best) * (cfg.trainer.max_steps + 1)
        )
        try:
            run = RunFolder(folder / f"trial{trial.number}_seed{seed}")
            best.append(_best_figure(cfg, run, watcher))
        except NonFiniteLossError:
            trial.set_user_attr("diverged", True)
            raise
    trial.set_user_attr("by_seed", dict(zip(map(str, space.seeds), best, strict=True)))
    return float(np.mean(best))


def _draw(trial: Any, key: str, options: Mapping[str, Any]) -> Any:
    if "choices" in options:
        return trial.suggest_categorical(key, options["choices"])
    low, high, log = options["low"], options["high"], options.get("log", False)
    whole = isinstance(low, int) and isinstance(high, int)
    return (trial.suggest_int if whole else trial.suggest_float)(key, low, high, log=log)


def _best_figure(cfg: TrainConfig, run: RunFolder, watcher: _Pruner) -> float:
    """Train one run and give its best validation figure; its checkpoints are not kept."""
    data = build_data(cfg)
    cfg = settle(cfg, num_classes=data.train.num_classes)
    if not data.val_chooses:
        raise ConfigError(
            "a sweep chooses by validation classes, and this protocol has none: take protocol=holdout or mlrc"
        )
    model, objective = build_model(cfg), build_objective(cfg, data.train)
    trainer = build_trainer(cfg, model, objective, data, build_evaluator(cfg, data), run)
    try:
        trainer.fit([watcher])
        return trainer.kept.figure["value"]
    finally:
        for path in run.checkpoints.glob("*"):
            path.unlink()
        for left in (run.checkpoints, run.path):
            if left.is_dir() and not any(left.iterdir()):
                left.rmdir()


class _Pruner(Logger):
    """A logger that shows the validation figures to Optuna, which may end the trial.

    What is shown is the mean of this seed's figure and the best ones of the seeds before: at the same point, the same
    mixture in every trial.
    """

    def __init__(self, trial: Any, select_by: str, *, before: Sequence[float], offset: int) -> None:
        self._trial, self._select_by, self._offset = trial, select_by, offset
        self._before, self._best = list(before), metric(select_by).score(-math.inf)

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        self._best = max(self._best, metrics[self._select_by], key=metric(self._select_by).score)
        self._trial.report(float(np.mean([*self._before, self._best])), self._offset + step)
        if self._trial.should_prune():
            raise _optuna().TrialPruned
