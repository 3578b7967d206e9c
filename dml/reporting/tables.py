"""A table over settings and seeds, for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from dml.reporting.results import Estimate, Setting, estimate, paired_difference

__all__ = ["comparison_rows", "markdown_table", "terminal_table"]


def comparison_rows(
    settings: Sequence[Setting], metrics: Sequence[str], baseline: str | None
) -> list[list[str]]:
    """Header and rows: per metric the mean ± 95 % interval in per cent, and the paired difference to a baseline.

    The baseline is the one setting whose label contains the given text.

    Raises:
        ValueError: no setting, or more than one, has such a label; or a metric that the runs do not have.
    """
    reference = _choose(settings, baseline) if baseline else None
    header = ["setting", "seeds", *(name for metric in metrics for name in _columns(metric, reference))]
    rows = [[s.label, str(len(s.runs)), *_cells(s, metrics, reference)] for s in settings]
    return [header, *rows]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table, the first one as its header."""
    header, *body = rows
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *body))


def terminal_table(rows: Sequence[Sequence[str]]) -> Table:
    """The rows for rich, the first one as the header."""
    table = Table(*rows[0])
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _choose(settings: Sequence[Setting], baseline: str) -> Setting:
    matching = [setting for setting in settings if baseline in setting.label]
    if len(matching) != 1:
        labels = "; ".join(setting.label for setting in settings)
        raise ValueError(f"baseline={baseline!r} fits {len(matching)} settings, it must fit one of: {labels}")
    return matching[0]


def _columns(metric: str, reference: Setting | None) -> list[str]:
    return [metric] if reference is None else [metric, f"Δ {metric}"]


def _cells(setting: Setting, metrics: Sequence[str], reference: Setting | None) -> list[str]:
    cells = []
    for metric in metrics:
        cells.append(_percent(estimate(list(_values(setting, metric).values()))))
        if reference is not None:
            difference = None if setting is reference else paired_difference(setting, reference, metric)
            cells.append(_percent(difference, signed=True) if difference else "")
    return cells


def _values(setting: Setting, metric: str) -> dict[int, float]:
    try:
        return setting.values(metric)
    except KeyError:
        known = ", ".join(next(iter(setting.runs.values())).metrics["test"])
        raise ValueError(f"metrics has {metric!r}, which the runs do not have; accepted: {known}") from None


def _percent(value: Estimate, *, signed: bool = False) -> str:
    mean = f"{100 * value.mean:{'+' if signed else ''}.2f}"
    return mean if math.isnan(value.half_width) else f"{mean} ± {100 * value.half_width:.2f}"
