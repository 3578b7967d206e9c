"""Read finished runs and group them: runs that differ in nothing but the seed are one setting."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf
from scipy import stats

from dml.config import load_config
from dml.runs import load_metrics

__all__ = ["Estimate", "Run", "Setting", "estimate", "find_runs", "group_by_setting", "paired_difference"]

NOT_A_SETTING = (
    "seed",
    "resume",
    "num_workers",
    "paths.",
    "logger.",
    "dataset.root",
    "backbone.weights",
    "trainer.device",
    "trainer.log_every",
    "evaluator.batch_size",
    "evaluator.backend",
)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its settings by dotted key without those that cannot change a number, its figures."""

    folder: Path
    settings: Mapping[str, Any]
    seed: int
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Setting:
    """Runs that differ in the seed alone, by seed; the label says what sets them apart from the other settings."""

    label: str
    runs: Mapping[int, Run]

    def values(self, metric: str) -> dict[int, float]:
        """The figure of the test classes by seed."""
        return {seed: run.metrics["test"][metric] for seed, run in self.runs.items()}


@dataclass(frozen=True)
class Estimate:
    """A mean with the half width of its 95 % interval (Student's t); NaN for a single value."""

    mean: float
    half_width: float
    count: int


def find_runs(pattern: str) -> tuple[list[Run], list[Path]]:
    """The finished runs in the folders that match a pattern (``**`` for any depth), and the unfinished ones.

    Raises:
        FileNotFoundError: no run folder matches.
    """
    configs = (Path(folder) / "config.yaml" for folder in glob.glob(pattern, recursive=True))
    folders = sorted({path.parent for path in configs if path.is_file()})
    if not folders:
        raise FileNotFoundError(
            f"no run folder matches {pattern!r}: a run folder holds config.yaml; try 'runs/**'"
        )
    finished = [folder for folder in folders if (folder / "metrics.json").is_file()]
    return [_read(folder) for folder in finished], [folder for folder in folders if folder not in finished]


def group_by_setting(runs: Iterable[Run]) -> list[Setting]:
    """Group runs by everything but the seed, in the order of their folders.

    Raises:
        ValueError: two runs have the same setting and the same seed.
    """
    groups: dict[frozenset[tuple[str, Any]], dict[int, Run]] = {}
    for run in runs:
        group = groups.setdefault(frozenset(run.settings.items()), {})  # 5 and 5.0 are one setting
        if run.seed in group:
            raise ValueError(
                f"{group[run.seed].folder} and {run.folder} have the same setting and the same seed {run.seed}: "
                "narrow the pattern so that it matches one of them"
            )
        group[run.seed] = run
    labels = _labels([next(iter(group.values())).settings for group in groups.values()])
    return [
        Setting(label, dict(sorted(group.items())))
        for label, group in zip(labels, groups.values(), strict=True)
    ]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of independent values."""
    count = len(values)
    if count < 2:
        return Estimate(float(np.mean(values)), float("nan"), count)
    half_width = stats.t.ppf(0.975, count - 1) * stats.sem(values)
    return Estimate(float(np.mean(values)), float(half_width), count)


def paired_difference(setting: Setting, baseline: Setting, metric: str) -> Estimate | None:
    """Mean and 95 % interval of the differences over the seeds that both have; None if they share no seed."""
    ours, theirs = setting.values(metric), baseline.values(metric)
    differences = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return estimate(differences) if differences else None


def _read(folder: Path) -> Run:
    cfg = load_config(folder / "config.yaml")
    every = _flatten(OmegaConf.to_container(cast(DictConfig, cfg), resolve=True))
    settings = {key: value for key, value in every if not key.startswith(NOT_A_SETTING)}
    return Run(folder, settings, cfg.seed, load_metrics(folder))


def _flatten(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield prefix, tuple(node) if isinstance(node, list) else node
        return
    for key, value in node.items():
        yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))


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
