"""Settings beside each other: means with intervals, differences to a baseline, published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dml.reporting.published import Published, published
from dml.reporting.results import READINGS, Setting
from dml.reporting.statistics import Estimate, estimate, paired_difference

__all__ = ["Comparison", "Figure", "Row", "compare"]


@dataclass(frozen=True)
class Figure:
    """One metric of one setting, as fractions 0..1.

    difference: to the baseline over paired seeds; None for the baseline itself, and where there are no pairs.
    """

    ours: Estimate
    difference: Estimate | None
    published: Published | None


@dataclass(frozen=True)
class Row:
    """A setting; figures by metric."""

    label: str
    seeds: int
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Comparison:
    """A table: one reading of the test classes, one row for each setting that has it.

    baseline: the label of the setting that the others are compared with.
    """

    reading: str
    metrics: tuple[str, ...]
    baseline: str | None
    rows: tuple[Row, ...]


def compare(
    settings: Sequence[Setting], metrics: Sequence[str], baseline: str | None = None
) -> list[Comparison]:
    """One table for each reading that the settings have: test, or separated and concatenated, or best on test.

    The baseline is the one setting whose label is the given text, or else contains it.

    Raises:
        ValueError: no setting, or more than one, has such a label; or a metric that the runs do not have.
    """
    reference = _choose(settings, baseline) if baseline else None
    return [
        Comparison(
            reading,
            tuple(metrics),
            reference.label if reference and reading in reference.figures else None,
            tuple(_row(s, metrics, reading, reference) for s in settings if reading in s.figures),
        )
        for reading in READINGS
        if any(reading in setting.figures for setting in settings)
    ]


def _row(setting: Setting, metrics: Sequence[str], reading: str, reference: Setting | None) -> Row:
    figures = {}
    for metric in metrics:
        values, difference = setting.values(metric, reading), None
        if reference is not None and reference is not setting and reading in reference.figures:
            difference = paired_difference(values, reference.values(metric, reading))
        known = published(setting.settings, reading=reading, metric=metric)
        figures[metric] = Figure(estimate(list(values.values())), difference, known)
    return Row(setting.label, len(setting.runs), figures)


def _choose(settings: Sequence[Setting], baseline: str) -> Setting:
    exact = [setting for setting in settings if setting.label == baseline]
    matching = exact or [setting for setting in settings if baseline in setting.label]
    if len(matching) != 1:
        labels = "; ".join(setting.label for setting in settings)
        raise ValueError(f"baseline={baseline!r} fits {len(matching)} settings, it must fit one of: {labels}")
    return matching[0]
