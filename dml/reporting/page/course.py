"""Charts of the course of a run."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from dml.reporting.outcome import Course
from dml.reporting.page.charts import Series, line_chart
from dml.retrieval import counted_in_rankings
from dml.run_folder import RunFolder
from dml.training import read_steps

__all__ = ["course_charts"]

SMOOTHED = 25  # steps in a running mean of the loss


def course_charts(folder: RunFolder, course: Course, kept: int | None) -> list[Markup]:
    """Loss, validation figures and terms of the loss by step, and how far the weights vary.

    kept: the step whose weights were kept, to be marked.
    """
    charts = [_loss_chart(folder, kept)]
    at = np.array(course.steps, dtype=np.float64)
    figures = [name for name in counted_in_rankings([1]) if f"val/{name}" in course.columns]
    lines = [
        Series(name, at, np.array(course.columns[f"val/{name}"]), style)
        for style, name in enumerate(figures, start=1)
    ]
    charts.append(line_chart(lines, title="Validation", x_label="step", percent=True, mark=kept))
    terms = [name for name in course.columns if name.startswith("loss/")]
    lines = [
        Series(name.removeprefix("loss/"), at, np.array(course.columns[name]), style)
        for style, name in enumerate(terms[:6], start=1)
    ]
    if len(terms) > 1:
        charts.append(line_chart(lines, title="Terms of the loss", x_label="step", mark=kept))
    spread = course.columns.get("weights/spread")
    if spread is not None:
        line = [Series("", at, np.array(spread), 1)]
        title = "How far the weights vary (0 is average pooling)"
        charts.append(line_chart(line, title=title, x_label="step", percent=True, mark=kept))
    return [chart for chart in charts if chart]


def _loss_chart(folder: RunFolder, kept: int | None) -> Markup:
    steps = read_steps(folder.steps)
    if not steps:
        return Markup("")
    x = np.array(list(steps), dtype=np.float64)
    loss = np.array([loss for loss, _ in steps.values()])
    width = min(SMOOTHED, len(loss))
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    lines = [
        Series("each step", x, loss, style=1, faint=True),
        Series(f"mean of {width} steps", x[width - 1 :], smooth, style=1),
    ]
    return line_chart(lines, title="Loss in training", x_label="step", mark=kept)
