"""From patterns of run folders to tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dml.errors import InputError
from dml.overrides import resume_command
from dml.reporting.comparison import Comparison, compare, single_baseline
from dml.reporting.results import find_runs, group_by_setting, missing_folds
from dml.reporting.tables import FORMATS, terminal_tables

__all__ = ["print_tables", "report_runs"]


def report_runs(
    patterns: Sequence[str], metrics: Sequence[str], *, baseline: str | None = None
) -> tuple[list[Comparison], list[str]]:
    """The tables of the runs that match one of the patterns, and a note on each run or seed that is left out.

    Raises:
        MissingFileError, InputError: as in find_runs, group_by_setting, single_baseline and compare, or
            nothing is complete.
    """
    finished, unfinished = find_runs(*patterns)
    notes = [f"unfinished, left out: {folder}; go on by: {resume_command(folder)}" for folder in unfinished]
    notes += missing_folds(finished)
    settings = group_by_setting(finished)
    if not settings:
        raise InputError(
            "\n".join(
                [f"no run that matches {' or '.join(map(repr, patterns))} can be reported yet:", *notes]
            )
        )
    return compare(settings, metrics, single_baseline(settings, baseline) if baseline else None), notes


def print_tables(comparisons: Sequence[Comparison], notes: Sequence[str], paths: Sequence[Path] = ()) -> None:
    """Print tables and notes, and write them to files in the format of each one's ending."""
    console = Console()
    for part in terminal_tables(comparisons, notes):
        console.print(
            part, soft_wrap=isinstance(part, str), markup=not isinstance(part, str), highlight=False
        )
    for path in paths:
        path.write_text(FORMATS[path.suffix](comparisons, notes), encoding="utf-8")
