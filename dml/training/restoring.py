"""Going on with an optimizer and a schedule, and with values of them that were changed in between."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dml.errors import CheckpointError, ConfigError

__all__ = ["restore_optimization"]

SECTIONS = ("optimizer", "learning_rates", "scheduler")
PROGRESS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")  # of a plateau schedule


def restore_optimization(
    optimizer: Optimizer,
    scheduler: LRScheduler,
    saved: Mapping[str, Any],
    origin: Path,
    *,
    now: Mapping[str, Any],
) -> None:
    """Load the moments of the optimizer and how far the schedule has come.

    Where the configuration is that of the checkpoint, all is loaded as it was saved. Where it is another, rates, weight
    decay, betas and the like are those of the new one: the schedule is what it would be at this step had it always
    had its new values, except that a plateau keeps the drops that it has made.

    Args:
        optimizer, scheduler: just built from the configuration ``now``.
        saved: a checkpoint with optimizer, scheduler and record.
        origin: its file, for messages.

    Raises:
        CheckpointError: it holds other parameters, or the state of another schedule or of one of another length.
        ConfigError: a change that cannot be applied to what was saved.
    """
    _check_length(saved["scheduler"], now["trainer"]["max_steps"])
    _check_groups(optimizer, saved["optimizer"], origin)
    before = saved["record"].get("config", now)
    try:
        if all(before[section] == now[section] for section in SECTIONS):
            optimizer.load_state_dict(saved["optimizer"])
            scheduler.load_state_dict(saved["scheduler"])
            return
        _check_kinds(before, now, origin)
        if isinstance(scheduler, ReduceLROnPlateau):
            _keep_drops(optimizer, scheduler, saved, before)
        else:
            _run_again(scheduler, saved["scheduler"]["last_epoch"])
        _load_moments(optimizer, saved["optimizer"])
    except (LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{origin} holds no state of {type(optimizer).__name__} and {type(scheduler).__name__}, which this "
            f"configuration has ({type(error).__name__}: {error}): take the configuration that it was trained with"
        ) from error
    _try_step(optimizer)


def _check_length(schedule: Mapping[str, Any], max_steps: int) -> None:
    drawn_over = schedule.get("total_steps", max_steps)
    if drawn_over != max_steps:
        raise CheckpointError(
            f"trainer.max_steps={max_steps}, but the schedule of this run was drawn over {drawn_over} steps: "
            "start a new run for another length, or use scheduler=constant or plateau, which have none"
        )


def _check_groups(optimizer: Optimizer, saved: Mapping[str, Any], origin: Path) -> None:
    """The roles and the number of their parameters are those of the checkpoint."""
    there, here = (
        {str(group.get("name")): len(group["params"]) for group in groups}
        for groups in (saved.get("param_groups", []), optimizer.param_groups)
    )
    if list(there.items()) != list(here.items()):
        raise CheckpointError(
            f"{origin} does not fit: its optimizer has {_counts(there)}, that of this configuration {_counts(here)}; "
            "take the configuration that it was trained with"
        )


def _counts(groups: Mapping[str, int]) -> str:
    return ", ".join(f"{count} parameters of {name}" for name, count in groups.items()) or "no parameters"


def _check_kinds(before: Mapping[str, Any], now: Mapping[str, Any], origin: Path) -> None:
    for section in ("optimizer", "scheduler"):
        there, here = before[section]["_target_"], now[section]["_target_"]
        if there != here:
            raise ConfigError(
                f"{section}._target_={here}: {origin} holds the state of {there}, with which another {section} cannot "
                f"go on; leave {section} as it was, or start a new run"
            )


def _run_again(scheduler: LRScheduler, steps: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no step of the optimizer comes between
        for _ in range(steps):
            scheduler.step()


def _keep_drops(
    optimizer: Optimizer, scheduler: ReduceLROnPlateau, saved: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Its new factor and patience hold from now on; each rate is the new one times what the drops have left of it."""
    left = {}
    for group in saved["optimizer"]["param_groups"]:
        started = before["optimizer"]["lr"] * before["learning_rates"][group["name"]]
        left[group["name"]] = group["lr"] / started if started else None
    known = [share for share in left.values() if share is not None]
    for group, old in zip(optimizer.param_groups, saved["optimizer"]["param_groups"], strict=True):
        started = before["optimizer"]["lr"] * before["learning_rates"][group["name"]]
        share = left[group["name"]]
        if share is None:  # a rate of 0 shows no drops; the others do
            share = min(known, default=1.0)
        group["lr"] = old["lr"] if group["lr"] == started else group["lr"] * share
    progress = {name: saved["scheduler"][name] for name in PROGRESS}
    progress["_last_lr"] = [group["lr"] for group in optimizer.param_groups]
    scheduler.load_state_dict({**scheduler.state_dict(), **progress})


def _load_moments(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """The state of each parameter as saved, with the options that the optimizer has now."""
    groups = [
        {**group, "params": old["params"]}
        for group, old in zip(optimizer.param_groups, saved["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})


def _try_step(optimizer: Optimizer) -> None:
    """Refuse options that need moments which were not kept, such as amsgrad; tried on copies of parameters."""
    for group in optimizer.param_groups:
        parameter = min(group["params"], key=torch.numel)
        probe = torch.nn.Parameter(parameter.detach().clone())
        probe.grad = torch.zeros_like(probe)
        trial = copy.copy(optimizer)
        trial.param_groups = [{**group, "params": [probe]}]
        trial.state = defaultdict(dict, {probe: copy.deepcopy(optimizer.state.get(parameter, {}))})
        try:
            trial.step()
        except Exception as error:
            raise ConfigError(
                f"{type(optimizer).__name__} cannot go on with its new values from the moments that were kept "
                f"({type(error).__name__}: {error}); leave optimizer as it was, or start a new run"
            ) from error
