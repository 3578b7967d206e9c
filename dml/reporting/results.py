"""Read finished runs and group them: runs that differ in nothing but seed and fold are one setting."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dml.config import TrainConfig, read_config, settings, to_plain
from dml.errors import InputError, MissingFileError
from dml.reporting.ensembles import concatenated_metrics, separated_metrics
from dml.runs import load_metrics

__all__ = [
    "READINGS",
    "VALIDATION",
    "Run",
    "Setting",
    "find_runs",
    "group_by_setting",
    "missing_folds",
    "settings_of",
]

FOLD = "protocol.fold"
REPEATED = ("seed", FOLD)  # runs that differ in nothing else are one setting

READINGS = ("test", "separated", "concatenated", "best on test")
VALIDATION = "val"  # a reading that is given only where it is asked for


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its settings by dotted key without those that cannot change a number, its figures.

    fold: the block of classes held out; None under a protocol without folds.
    """

    folder: Path
    settings: Mapping[str, Any]
    seed: int
    fold: int | None
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in seed and fold alone; the label says what sets them apart from the other settings.

    runs: by seed, the runs of its folds in their order; a single run under a protocol without folds.
    """

    label: str
    runs: Mapping[int, tuple[Run, ...]]

    @property
    def settings(self) -> Mapping[str, Any]:
        return next(iter(self.runs.values()))[0].settings

    @cached_property
    def figures(self) -> Mapping[str, Mapping[int, Mapping[str, float]]]:
        """The metrics by reading and seed, of the test classes but for the last one.

        Under folds: ``separated``, the mean over the models, and ``concatenated``, of their joint embedding. Else
        ``test``, ``best on test`` if all runs followed the test classes, and, for whoever decides and may not look at
        them, ``val`` if validation classes chose the checkpoints.
        """
        if "protocol.folds" in self.settings:
            return {
                "separated": {
                    seed: separated_metrics([run.metrics["test"] for run in runs])
                    for seed, runs in self.runs.items()
                },
                "concatenated": {
                    seed: concatenated_metrics([run.folder for run in runs], metrics=runs[0].metrics["test"])
                    for seed, runs in self.runs.items()
                },
            }
        found = {"test": "test", "best on test": "best_on_test", VALIDATION: "val"}
        return {
            reading: {seed: run.metrics[key] for seed, (run,) in self.runs.items()}
            for reading, key in found.items()
            if all(key in run.metrics for (run,) in self.runs.values())
        }

    def values(self, metric: str, reading: str = "test") -> dict[int, float]:
        """One metric by seed.

        Raises:
            InputError: the runs do not have it.
        """
        figures = self.figures[reading]
        known = next(iter(figures.values()))
        if metric not in known:
            raise InputError(
                f"metrics has {metric!r}, which {self.label} does not have; accepted: {', '.join(known)}"
            )
        return {seed: metrics[metric] for seed, metrics in figures.items()}


def find_runs(*patterns: str) -> tuple[list[Run], list[Path]]:
    """The finished runs in folders, or in what matches patterns (``**`` for any depth), and the unfinished ones.

    In the order of the patterns, and of the folders of each by name.

    Raises:
        MissingFileError: no run folder matches.
        InputError: a config.yaml or metrics.json that is not of this project; the message names it.
    """
    folders = list(dict.fromkeys(folder for pattern in patterns for folder in sorted(_run_folders(pattern))))
    finished = [folder for folder in folders if (folder / "metrics.json").is_file()]
    return [_read(folder) for folder in finished], [folder for folder in folders if folder not in finished]


def _run_folders(pattern: str) -> list[Path]:
    named = [pattern] if Path(pattern, "config.yaml").is_file() else glob.glob(pattern, recursive=True)
    folders = [Path(folder) for folder in named if Path(folder, "config.yaml").is_file()]
    if not folders:
        raise MissingFileError(
            f"no run folder matches {pattern!r}: a run folder holds config.yaml; try 'runs/**'"
        )
    return folders


def group_by_setting(runs: Iterable[Run]) -> list[Setting]:
    """Group runs by everything but seed and fold, in the order of their folders; seeds that lack a fold are left out.

    Raises:
        InputError: two runs have the same setting, seed and fold; or runs of several test sets, which no
            table can compare.
    """
    groups: dict[frozenset[tuple[str, Any]], dict[int, dict[int | None, Run]]] = {}
    runs = list(runs)
    _refuse_mixture(runs)
    for run in runs:
        group = groups.setdefault(frozenset(run.settings.items()), {})  # 5 and 5.0 are one setting
        folds = group.setdefault(run.seed, {})
        if run.fold in folds:
            raise InputError(
                f"{folds[run.fold].folder} and {run.folder} have the same setting and the same seed {run.seed}: "
                "narrow the pattern so that it matches one of them"
            )
        folds[run.fold] = run
    complete = [
        {
            seed: tuple(folds[fold] for fold in _folds(folds))
            for seed, folds in sorted(group.items())
            if not _missing(folds)
        }
        for group in groups.values()
    ]
    complete = [group for group in complete if group]
    labels = _labels([next(iter(group.values()))[0].settings for group in complete])
    return [Setting(label, group) for label, group in zip(labels, complete, strict=True)]


def missing_folds(runs: Iterable[Run]) -> list[str]:
    """A sentence for each seed whose ensemble is not complete."""
    groups: dict[tuple[frozenset[tuple[str, Any]], int], dict[int | None, Run]] = {}
    for run in runs:
        groups.setdefault((frozenset(run.settings.items()), run.seed), {})[run.fold] = run
    return [
        f"left out: seed {seed} of {folds[min(folds, key=str)].folder.parent}, which lacks fold "
        f"{', '.join(map(str, _missing(folds)))}"
        for (_, seed), folds in groups.items()
        if _missing(folds)
    ]


def _folds(runs: Mapping[int | None, Run]) -> list[int | None]:
    """The folds that a seed needs: all of the protocol, or the one nameless one."""
    count = next(iter(runs.values())).settings.get("protocol.folds")
    return [None] if count is None else list(range(count))


def _missing(runs: Mapping[int | None, Run]) -> list[int | None]:
    return [fold for fold in _folds(runs) if fold not in runs]


def _refuse_mixture(runs: Sequence[Run]) -> None:
    """Figures of different test classes say nothing about each other."""
    first: dict[tuple[str, ...], Run] = {}
    for run in runs:
        test = run.metrics["test"]
        counts = tuple(f"{test[name]} {name}" for name in ("queries", "gallery") if name in test)
        first.setdefault((str(run.settings["dataset._target_"]).rpartition(".")[2], *counts), run)
    if len(first) > 1:
        kinds = "; ".join(f"{', '.join(kind)} in {run.folder}" for kind, run in first.items())
        raise InputError(
            f"the runs were tested on different images and cannot stand in one table: {kinds}. Narrow the pattern "
            "to the runs of one data set"
        )


def settings_of(cfg: TrainConfig) -> dict[str, Any]:
    """What can change a number, by dotted key, but for seed and fold; ``???`` for what is still open."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in settings(to_plain(cfg)).items()
        if key not in REPEATED
    }


def _read(folder: Path) -> Run:
    cfg = read_config(folder / "config.yaml")
    return Run(folder, settings_of(cfg), cfg.seed, cfg.protocol.get("fold"), _read_metrics(folder))


def _read_metrics(folder: Path) -> dict[str, dict[str, float]]:
    try:
        metrics = load_metrics(folder)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{folder / 'metrics.json'} cannot be read: {error}; move the folder away"
        ) from error
    if not isinstance(metrics, dict) or "test" not in metrics:
        raise InputError(
            f"{folder / 'metrics.json'} has no figures of the test classes, as after protocol=all: narrow the "
            "pattern to runs that were tested, or move the folder away"
        )
    return metrics


def _labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets each setting apart; arguments of a component only where its kind alone does not."""
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    shown = [key for key in keys if _differs(key, settings)]
    return [
        ", ".join(_label(key, setting[key]) for key in shown if key in setting) or "all runs"
        for setting in settings
    ]


def _differs(key: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the value differs between settings that use the same kind of component there."""
    kind = f"{key.partition('.')[0]}._target_"
    values: dict[Any, set[Any]] = {}
    for setting in settings:
        if key in setting:
            values.setdefault(None if key == kind else setting.get(kind), set()).add(setting[key])
    return any(len(found) > 1 for found in values.values())


def _label(key: str, value: Any) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"
