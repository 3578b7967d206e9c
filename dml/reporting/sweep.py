"""The trials of a sweep, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from dml.overrides import train_command
from dml.retrieval import metric

__all__ = ["sweep_table", "winner_command"]


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


def winner_command(study: Any, overrides: Sequence[str]) -> str | None:
    """The command that trains the best trial; None as long as none is complete.

    overrides: what every trial had besides.
    """
    if not any(trial.state.name == "COMPLETE" for trial in study.get_trials()):
        return None
    drawn = [f"{key}={value}" for key, value in study.best_trial.params.items()]
    return train_command(*overrides, *drawn)


def _drawn(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
