"""Several runs side by side: figures, differences to the first over the same queries, settings and courses."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dml.config import settings, to_plain
from dml.reporting.outcome import read_course
from dml.reporting.page.charts import Series, line_chart
from dml.reporting.page.classes import Interval, class_figures, interval_over_classes
from dml.reporting.page.sections import Contents, TestSet
from dml.reporting.page.settings import key_text, value_text
from dml.run_folder import RunFolder

__all__ = ["Comparison", "comparison_of"]

CHANGED = 6  # classes on either side


class Measured(NamedTuple):
    """A metric of the test classes; difference: to the first run, None for it and for runs of another test set."""

    interval: Interval
    difference: Interval | None


class ComparedRun(NamedTuple):
    """link: to the page of the run, relative to this one; "" if it has none."""

    label: str
    folder: str
    link: str
    kept: int | None
    figures: Mapping[str, Measured]
    sentences: Sequence[str]


class Change(NamedTuple):
    """A class whose map@r differs from that in the first run."""

    name: str
    run: str
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    runs: Sequence[ComparedRun]
    metrics: Sequence[str]
    settings: Sequence[tuple[str, Sequence[str]]]
    charts: Sequence[Markup]
    gained: Sequence[Change]
    lost: Sequence[Change]
    one_test_set: bool


def comparison_of(contents: Sequence[Contents], path: Path) -> Comparison:
    """path: of the page, which the links start from."""
    labels = _labels([run.folder for run in contents])
    first = contents[0]
    runs = [
        ComparedRun(label, run.folder, _link(run, path), run.kept, _measured(run, first), run.sentences)
        for label, run in zip(labels, contents, strict=True)
    ]
    changes = [
        change
        for label, run in zip(labels[1:], contents[1:], strict=True)
        for change in _changes(run, first, label)
    ]
    changes.sort(key=lambda change: change.after - change.before)
    return Comparison(
        runs,
        list(dict.fromkeys(name for run in runs for name in run.figures)),
        _differing(contents),
        _charts(labels, contents),
        [change for change in changes[::-1] if change.after > change.before][:CHANGED],
        [change for change in changes if change.after < change.before][:CHANGED],
        all(_same_test(run, first) for run in contents),
    )


def _labels(folders: Sequence[str]) -> list[str]:
    """What sets the folders apart."""
    paths = [os.path.abspath(folder) for folder in folders]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def _link(run: Contents, path: Path) -> str:
    report = RunFolder(Path(run.folder)).report
    return Path(os.path.relpath(report, path.parent)).as_posix() if report.exists() else ""


def _same_test(run: Contents, first: Contents) -> bool:
    return (
        run.test is not None
        and first.test is not None
        and tuple(run.test.files) == tuple(first.test.files)
        and np.array_equal(run.test.labels, first.test.labels)
        and _roles(run.test) == _roles(first.test)
    )


def _roles(test: TestSet) -> list[bool] | None:
    return None if test.is_query is None else test.is_query.tolist()


def _scores(run: Contents) -> dict[str, NDArray[np.float64]]:
    if run.ranking is None:
        return {}
    return {"recall@1": run.ranking.recall, "map@r": run.ranking.average_precision}


def _measured(run: Contents, first: Contents) -> dict[str, Measured]:
    if run.test is None or run.ranking is None:
        return {}
    labels = run.test.labels[run.ranking.queries]
    comparable = run is not first and _same_test(run, first)
    before = _scores(first) if comparable else {}
    return {
        name: Measured(
            interval_over_classes(values, labels),
            interval_over_classes(values - before[name], labels) if comparable else None,
        )
        for name, values in _scores(run).items()
    }


def _changes(run: Contents, first: Contents, label: str) -> list[Change]:
    if not _same_test(run, first) or run.test is None or run.ranking is None or first.ranking is None:
        return []
    labels = run.test.labels[run.ranking.queries]
    after, before = (
        class_figures(labels, ranking.recall, ranking.average_precision)
        for ranking in (run.ranking, first.ranking)
    )
    pairs = zip(after.labels, before.average_precision, after.average_precision, strict=True)
    return [Change(run.test.class_names[i], label, float(old), float(new)) for i, old, new in pairs]


def _differing(contents: Sequence[Contents]) -> list[tuple[str, list[str]]]:
    """The settings that are not the same in all runs, with the value in each."""
    every = [settings(to_plain(run.settings)) for run in contents]
    keys = dict.fromkeys(key for run in every for key in run)
    shown = {key: [value_text(run[key]) if key in run else "" for run in every] for key in keys}
    return [(key_text(key), values) for key, values in shown.items() if len(set(values)) > 1]


def _charts(labels: Sequence[str], contents: Sequence[Contents]) -> list[Markup]:
    courses = [read_course(RunFolder(Path(run.folder))) for run in contents]
    charts = []
    for name in ("map@r", "recall@1", "total loss"):
        key = "loss/total" if name == "total loss" else f"val/{name}"
        lines = [
            Series(label, np.array(course.steps, dtype=np.float64), np.array(course.columns[key]), 1 + i % 6)
            for i, (label, course) in enumerate(zip(labels, courses, strict=True))
            if key in course.columns
        ]
        title = "Loss in training" if name == "total loss" else f"Validation, {name}"
        charts.append(line_chart(lines, title=title, x_label="step", percent=key.startswith("val/")))
    return [chart for chart in charts if chart]
