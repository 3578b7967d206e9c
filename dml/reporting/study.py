"""The controlled study: its runs, and tables of what its poolings reach and select."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml.reporting.reproduction import Job, plan_jobs
from dml.reporting.results import Run, find_runs
from dml.reporting.statistics import estimate, paired_difference, percent
from dml.reporting.table_files import Table, read_tables

__all__ = [
    "MAIN",
    "SWEEPS",
    "TABLES",
    "StudyRow",
    "markdown_study",
    "reference_of",
    "study_jobs",
    "study_rows",
    "study_table",
]

MAIN = "collage"
SWEEPS = {"collage_sharpness": "pooling.sharpness", "collage_ratio": "pooling.transport_ratio"}
TABLES = {
    MAIN: "Poolings",
    "collage_sharpness": "Along the sharpness",
    "collage_ratio": "Along the transport ratio",
    "collage_ablation": "One thing changed at a time",
    "collage_length": "Three times as long",
}
METRICS = ("recall@1", "map@r")
SELECTION = "selection_accuracy"


@dataclass(frozen=True)
class StudyRow:
    """What the finished runs of a row have reached; runs by seed, never empty."""

    name: str
    runs: Mapping[int, Run]

    @property
    def settings(self) -> Mapping[str, Any]:
        return next(iter(self.runs.values())).settings

    def values(self, metric: str) -> dict[int, float]:
        """A metric of the test classes by seed; empty if the runs do not have it."""
        figures = {seed: run.metrics["test"] for seed, run in self.runs.items()}
        return {seed: values[metric] for seed, values in figures.items() if metric in values}

    @property
    def is_reference(self) -> bool:
        """Whether the row shows targets alone."""
        return bool(self.settings["dataset.grid"] == 1)

    @property
    def chance(self) -> float:
        """Selection accuracy of equal weights: the share of the image that targets cover."""
        return int(self.settings["dataset.targets_per_image"]) / int(self.settings["dataset.grid"]) ** 2

    @property
    def best_selection(self) -> float:
        """The largest selection accuracy that the pooling could have; NaN where it learns how much to keep.

        At a transport ratio above chance, something else must be kept too.
        """
        if self.settings["pooling._target_"].endswith(
            (".GlobalAveragePooling", ".GlobalAverageAttributesPooling")
        ):
            return self.chance
        if self.settings.get("pooling.learnable_ratio"):
            return math.nan
        return min(1.0, self.chance / float(self.settings.get("pooling.transport_ratio", self.chance)))


def study_table(name: str) -> Table:
    """A table of the study, whose rows all have the one set of collages."""
    (table,) = read_tables(name)
    return table


def study_jobs(folder: Path, *, limit: int | None = None) -> list[Job]:
    """The runs of all tables of the study, each once though it may stand in several.

    Those of the main table come first, then of the others all rows of one seed after those of the seed before.

    Raises:
        ConfigError: a limit below 1.
    """
    by_table = {name: plan_jobs(study_table(name), folder, limit=limit) for name in TABLES}
    main = by_table.pop(MAIN)
    others = sorted((job for jobs in by_table.values() for job in jobs), key=lambda job: job.folder.name)
    return list({job.folder: job for job in (*main, *others)}.values())


def study_rows(name: str, folder: Path) -> list[StudyRow]:
    """The rows of a table that have finished runs, in its order, with those of its seeds."""
    table = study_table(name)
    rows = []
    for row in table.rows:
        place = row.folder(folder)
        if any(place.rglob("config.yaml")):
            finished, _ = find_runs(f"{glob.escape(str(place))}/**")
            runs = {run.seed: run for run in finished if run.seed in table.seeds}
            if runs:
                rows.append(StudyRow(row.name, dict(sorted(runs.items()))))
    return rows


def reference_of(rows: Sequence[StudyRow]) -> StudyRow | None:
    """The row of a table that shows the targets alone, if there is one."""
    return next((row for row in rows if row.is_reference), None)


def markdown_study(rows: Sequence[StudyRow], *, reference: StudyRow | None, swept: str | None = None) -> str:
    """A Markdown table in per cent: mean ± 95 % interval over seeds; differences and shares over paired seeds.

    Differences are to the first row.

    reference: the targets alone; each row has its share of their map@r.
    swept: the setting that the rows differ in, which then names and orders them.
    """
    header = [f"`{swept}`" if swept else "setting", "seeds"]
    header += [title for metric in METRICS for title in (metric, f"Δ {metric}")]
    header += ["of distilled map@r", "selection accuracy", "chance", "at best"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    ordered = sorted(rows, key=lambda row: float(row.settings[swept])) if swept else rows
    for row in ordered:
        name = f"{row.settings[swept]:g}" if swept else f"`{row.name}`"
        lines.append([name, *_cells(row, rows[0], reference)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: StudyRow, first: StudyRow, reference: StudyRow | None) -> list[str]:
    cells = [str(len(row.runs))]
    for metric in METRICS:
        values = row.values(metric)
        difference = None if row is first else paired_difference(values, first.values(metric))
        cells += [
            percent(estimate(list(values.values()))),
            percent(difference, signed=True) if difference else "",
        ]
    cells.append("" if reference is None or row is reference else _share(row, reference))
    selected = row.values(SELECTION)
    if not selected or row.is_reference:
        return [*cells, "", "", ""]
    best = "" if math.isnan(row.best_selection) else f"{100 * row.best_selection:.0f}"
    return [*cells, percent(estimate(list(selected.values()))), f"{100 * row.chance:.0f}", best]


def _share(row: StudyRow, reference: StudyRow) -> str:
    """map@r as a share of that of the reference, over the seeds of both."""
    ours, theirs = row.values("map@r"), reference.values("map@r")
    shares = [ours[seed] / theirs[seed] for seed in ours if seed in theirs]
    return percent(estimate(shares)) if shares else ""
