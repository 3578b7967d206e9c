"""Whether a run can be repeated: its first steps, trained once more from its configuration alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from dml.assembly import (
    build_data,
    build_evaluator,
    build_model,
    build_objective,
    build_trainer,
    environment_of,
)
from dml.config import load_config
from dml.runs import move_data
from dml.training import StepLogger, read_steps

__all__ = ["Verification", "repeat_steps"]


class Verification(NamedTuple):
    """steps: recorded and repeated (loss, gradient norm) of each; environment: what differs, then and now."""

    steps: dict[int, tuple[tuple[float, float], tuple[float, float]]]
    environment: dict[str, tuple[Any, Any]]


def repeat_steps(
    folder: str | Path, steps: int, *, data: str | None = None, trust: Sequence[str] = ()
) -> Verification:
    """Train the first steps of a run once more, from its configuration alone.

    Args:
        folder: a run folder; nothing in it is changed.
        steps: how many, at most as many as the run has.
        data: where the data sets lie now; None where they lay in training.
        trust: as in load_model.

    Raises:
        FileNotFoundError: the run or its data set is not there, or it has recorded no step.
        ValueError: fewer than one step asked for.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: give at least 1")
    folder = Path(folder)
    cfg = load_config(folder / "config.yaml", trust=trust)
    recorded = {step: row for step, row in read_steps(folder / "steps.csv").items() if step <= steps}
    if not recorded:
        raise FileNotFoundError(
            f"{folder / 'steps.csv'} has no step to compare with: the run has not trained"
        )
    if data is not None:
        move_data(cfg, data)
    then = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    with TemporaryDirectory() as scratch:
        splits = build_data(cfg)
        model, objective = build_model(cfg), build_objective(cfg, splits.train)
        evaluator = build_evaluator(cfg, splits)
        trainer = build_trainer(cfg, model, objective, splits, evaluator, Path(scratch))
        with closing(StepLogger(Path(scratch) / "steps.csv", start=0)) as logger:
            trainer.fit([logger], until=max(recorded))
        repeated = read_steps(Path(scratch) / "steps.csv")
    now = environment_of(cfg)
    return Verification(
        {step: (recorded[step], repeated[step]) for step in recorded},
        {key: (then.get(key), now[key]) for key in now if key != "command" and then.get(key) != now[key]},
    )
