"""What came of a run: which step was kept and why, and what to try where training brought nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from dml.config import read_config
from dml.retrieval import metric
from dml.run_folder import RunFolder
from dml.runs import kept_step, load_metrics

__all__ = ["Course", "outcome", "read_course"]


@dataclass(frozen=True)
class Course:
    """history.csv: the steps of the validations, and each column at these steps; NaN where a row has no value."""

    steps: list[int]
    columns: dict[str, list[float]]


def read_course(folder: RunFolder) -> Course:
    """The validations of a run, in the order of their steps; none if there is no history.csv."""
    if not folder.history.exists():
        return Course([], {})
    with folder.history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name != "step"]
    columns = {name: [float(row[name] or "nan") for row in rows] for name in names}
    return Course([int(row["step"]) for row in rows], columns)


def outcome(folder: Path | RunFolder) -> list[str]:
    """A sentence on the step that was kept, and where there is something to try, another on that; for a finished run.

    Raises:
        MissingFileError: the run is not finished.
    """
    run = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    metrics, cfg, course = load_metrics(run), read_config(run.config), read_course(run)
    name = cfg.trainer.select_by
    values = dict(zip(course.steps, course.columns.get(f"val/{name}", []), strict=False))
    if not values:
        return []
    chooses = "val" in metrics
    last = max(values)
    kept = kept_step(run)
    if kept is None:  # of a version that did not write it
        kept = max(values, key=lambda step: (metric(name).score(values[step]), -step)) if chooses else last
    if last == 0:
        return ["not trained: these are the figures of the model as it starts (trainer.max_steps=0)"]
    why = (
        f"the best of {len(values)} validations by {name}"
        if chooses
        else "the last one, as the protocol says"
    )
    shown = metric(name).shown
    figures = shown(values.get(kept, values[last]))
    before = f", untrained {shown(values[0])}" if 0 in values else ""
    first = f"kept: step {kept} of {last}, {why}: {figures}{before}"
    scores = {step: metric(name).score(value) for step, value in values.items()}
    return [first, *_advice(scores, kept, last, chooses=chooses)]


def _advice(scores: dict[int, float], kept: int, last: int, *, chooses: bool) -> list[str]:
    """What a person should know who sees only the table; scores by step, larger is better."""
    if kept == 0:
        return [
            "training brought nothing: no later validation was better than that of the untrained model, so the "
            "untrained model was kept, and its figures are the ones in the table. Try a smaller optimizer.lr, for a "
            "proxy loss trainer.frozen_backbone_steps, another loss, or more classes and images"
        ]
    if not chooses:
        worse = 0 in scores and scores.get(kept, scores[last]) <= scores[0]
        return [
            "training brought nothing: the untrained model was no worse. Try a smaller optimizer.lr"
        ] * worse
    trained = [step for step in scores if step > 0]
    if kept == last and len(trained) > 1:
        return [
            "the best validation was the last, so more steps may do better: try a larger trainer.max_steps"
        ]
    if kept == trained[0] and len(trained) > 1:
        return [
            "the best validation was the first after the start, and training made it worse from there: try a smaller "
            "optimizer.lr, or a smaller trainer.eval_every, which looks for a better step before it"
        ]
    return []
