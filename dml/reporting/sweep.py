"""The trials of a sweep, best first."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from dml.retrieval import metric

__all__ = ["sweep_table"]


def sweep_table(study: Any) -> Table:
    """Number, state, validation figure and drawn values of every trial of an Optuna study."""
    selected_by = metric(study.user_attrs.get("select_by", ""))
    trials = sorted(
        study.get_trials(),
        key=lambda trial: (trial.state.name != "COMPLETE", -selected_by.score(trial.value or 0)),
    )
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    table = Table("trial", "state", "validation", *keys)
    for trial in trials:
        value = "" if trial.value is None else selected_by.shown(trial.value)
        drawn = [_drawn(trial.params.get(key, "")) for key in keys]
        table.add_row(str(trial.number), trial.state.name.lower(), value, *drawn)
    return table


def _drawn(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
