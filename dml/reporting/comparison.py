"""Settings beside each other: means with intervals, differences to a baseline, published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dml.errors import InputError
from dml.reporting.published import Published, departures_from_published, published
from dml.reporting.results import READINGS, Setting
from dml.reporting.statistics import Estimate, estimate, paired_difference

__all__ = ["Comparison", "Figure", "Row", "compare", "single_baseline"]


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
    """A setting; figures by metric.

    departures: in what it differs from the published setting of its parts; its figures then have no published ones.
    """

    label: str
    seeds: int
    figures: Mapping[str, Figure]
    departures: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """A table: one reading of the test classes, one row for each setting that has it.

    baselines: by label, the label of the row that a row is compared with.
    """

    reading: str
    metrics: tuple[str, ...]
    baselines: Mapping[str, str]
    rows: tuple[Row, ...]


def compare(
    settings: Sequence[Setting],
    metrics: Sequence[str],
    baselines: Mapping[str, str] | None = None,
    *,
    reading: str | None = None,
) -> list[Comparison]:
    """One table for each reading that the settings have: test, or separated and concatenated, or best on test.

    Args:
        baselines: by label, the label of the setting to compare with.
        reading: this one alone, which may be ``val``.

    Raises:
        InputError: a metric or a reading that the runs do not have.
    """
    asked = READINGS if reading is None else (reading,)
    had = [reading for reading in asked if any(reading in setting.figures for setting in settings)]
    if not had and settings:
        known = dict.fromkeys(known for setting in settings for known in setting.figures)
        raise InputError(f"reading={reading}, which the runs do not have; accepted: {', '.join(known)}")
    return [
        _comparison([s for s in settings if reading in s.figures], metrics, reading, baselines or {})
        for reading in had
    ]


def single_baseline(settings: Sequence[Setting], text: str) -> dict[str, str]:
    """Compare every other setting with the one whose label is the given text, or else contains it.

    Raises:
        InputError: no setting, or more than one, has such a label.
    """
    exact = [setting.label for setting in settings if setting.label == text]
    matching = exact or [setting.label for setting in settings if text in setting.label]
    if len(matching) != 1:
        labels = "; ".join(setting.label for setting in settings)
        raise InputError(f"baseline={text!r} fits {len(matching)} settings, it must fit one of: {labels}")
    return {setting.label: matching[0] for setting in settings if setting.label != matching[0]}


def _comparison(
    settings: Sequence[Setting], metrics: Sequence[str], reading: str, baselines: Mapping[str, str]
) -> Comparison:
    by_label = {setting.label: setting for setting in settings}
    pairs = {label: other for label, other in baselines.items() if label in by_label and other in by_label}
    rows = [_row(s, metrics, reading, by_label.get(pairs.get(s.label, ""))) for s in settings]
    return Comparison(reading, tuple(metrics), pairs, tuple(rows))


def _row(setting: Setting, metrics: Sequence[str], reading: str, reference: Setting | None) -> Row:
    figures = {}
    departures = departures_from_published(setting.settings, reading=reading)
    for metric in metrics:
        values = setting.values(metric, reading)
        difference = paired_difference(values, reference.values(metric, reading)) if reference else None
        known = None if departures else published(setting.settings, reading=reading, metric=metric)
        figures[metric] = Figure(estimate(list(values.values())), difference, known)
    return Row(setting.label, len(setting.runs), figures, departures)
