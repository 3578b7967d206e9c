"""Whether a run can be repeated: its first steps, trained once more from its configuration alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from dml.assembly import (
    build_data,
    build_evaluator,
    build_model,
    build_objective,
    build_trainer,
    environment_of,
)
from dml.config import TrainConfig, load_config
from dml.data_changes import data_differences
from dml.errors import InputError, MissingFileError, user_files
from dml.model import EmbeddingModel
from dml.moved_data import move_data
from dml.run_folder import RunFolder
from dml.training import StepLogger, read_steps

__all__ = ["Verification", "repeat_steps"]


class Verification(NamedTuple):
    """steps: recorded and repeated (loss, gradient norm) of each; environment: what differs, then and now."""

    steps: dict[int, tuple[tuple[float, float], tuple[float, float]]]
    environment: dict[str, tuple[Any, Any]]


def repeat_steps(
    folder: str | Path,
    steps: int,
    *,
    data: str | None = None,
    weights: str | None = None,
    trust: Sequence[str] = (),
) -> Verification:
    """Train the first steps of a run once more, from its configuration alone.

    Args:
        folder: a run folder; nothing in it is changed.
        steps: how many, at most as many as the run has.
        data: where the data sets lie now; None where they lay in training.
        weights: the file of weights that the backbone started from, if it does not lie where it lay in training.
        trust: as in load_model.

    Raises:
        MissingFileError: the run, its data set or its weights are not there, or it has recorded no step.
        InputError: fewer than one step asked for, weights for a backbone that reads none from a file, data that would
            move nothing, or a data set that has changed since.
    """
    if steps < 1:
        raise InputError(f"steps={steps}: give at least 1")
    run = RunFolder(Path(folder))
    cfg = load_config(run.config, trust=trust)
    recorded = {step: row for step, row in read_steps(run.steps).items() if step <= steps}
    if not recorded:
        raise MissingFileError(f"{run.steps} has no step to compare with: the run has not trained")
    if data is not None:
        move_data(cfg, data)
    if weights is not None:
        _move_weights(cfg, weights)
    with user_files("reading the environment of the run"):
        then = json.loads(run.environment.read_text(encoding="utf-8"))
    with TemporaryDirectory() as name:
        scratch = RunFolder(Path(name))
        splits = build_data(cfg)
        if others := data_differences(run, splits, "train"):
            raise InputError(
                f"{run} was trained on other images than its data set has now: {'; '.join(others)}. Undo that, or say "
                "by data=DIR where those images lie"
            )
        model, objective = _starting_model(cfg), build_objective(cfg, splits.train)
        evaluator = build_evaluator(cfg, splits)
        trainer = build_trainer(cfg, model, objective, splits, evaluator, scratch)
        with closing(StepLogger(scratch.steps, start=0)) as logger:
            trainer.fit([logger], until=max(recorded))
        repeated = read_steps(scratch.steps)
    now = environment_of(cfg)
    return Verification(
        {step: (recorded[step], repeated[step]) for step in recorded},
        {key: (then.get(key), now[key]) for key in now if key != "command" and then.get(key) != now[key]},
    )


def _move_weights(cfg: TrainConfig, weights: str) -> None:
    for key in ("checkpoint", "weights"):
        if isinstance(cfg.backbone.get(key), str):
            cfg.backbone[key] = weights
            return
    raise InputError(
        f"weights={weights}: {cfg.backbone['_target_']} has read no file of weights; leave it out"
    )


def _starting_model(cfg: TrainConfig) -> EmbeddingModel:
    """The model that the run started from."""
    try:
        return build_model(cfg)
    except FileNotFoundError as error:
        raise MissingFileError(
            f"the first steps start from the weights that the run started from, other than a resumed or loaded model: "
            f"say where they lie now by weights=FILE, or by data=DIR. {error}"
        ) from error
