"""Checkpoints that are whole or absent, and that cannot run code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dml import __version__
from dml.distributed import is_main
from dml.errors import CheckpointError, MissingFileError, user_files
from dml.migrations import FORMAT, migrate_checkpoint
from dml.training.loggers import warn_of_lost

__all__ = ["load_checkpoint", "load_part", "save_checkpoint", "save_unless_full"]

SHOWN = 3  # misfits that a message names


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write to a temporary file beside the path, flush it to the disk, then rename: the old file stays until then.

    The version of the format and of dml are added.

    Raises:
        OSError: the disk is full, or the file cannot be written; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "dml": __version__, **state}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)  # what was written of it would keep the disk full
        if isinstance(error.__context__, OSError):  # torch hides it behind an error of its own
            raise error.__context__ from None
        raise
    temporary.replace(path)


def save_unless_full(path: Path, state: Mapping[str, Any]) -> OSError | None:
    """Have the main process save a checkpoint. A full disk costs it and not the run: the one before stays.

    Returns why it could not be saved; None if all is well.
    """
    if not is_main():
        return None
    try:
        save_checkpoint(path, state)
    except OSError as error:
        warn_of_lost(f"{path.name} of step {state['step']}", error)
        return error
    return None


def load_checkpoint(path: Path, *parts: str) -> dict[str, Any]:
    """Read tensors and plain values of this or an earlier version onto the CPU; a file with anything else is refused.

    Args:
        parts: what it must hold beside a model.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: it is not a checkpoint of this project, it lacks a part, it would run code, or a newer version
            wrote it.
    """
    if not path.is_file():
        raise MissingFileError(
            f"no checkpoint at {path}: expected checkpoints/last.pt or best.pt in a run folder"
        )
    try:
        with user_files(f"reading {path}"):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of plain tensors; take another: {error}"
        ) from error
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(f"{path} is no checkpoint of this project: it holds no model; take another")
    state = migrate_checkpoint(state, str(path))
    if missing := [part for part in parts if part not in state]:
        raise CheckpointError(
            f"{path} holds {', '.join(map(str, state))}, but no {', '.join(missing)}, and no run can go on without: "
            "give the last.pt of a run, not its best.pt"
        )
    return state


def load_part(module: nn.Module, state: Mapping[str, Any], part: str, origin: Path) -> None:
    """Load one part of a checkpoint into its module, which must agree in every name and shape.

    Raises:
        CheckpointError: it does not; the message names both sides.
    """
    try:
        module.load_state_dict(state[part])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        misfits = list(_misfits(state[part], module.state_dict(), part))
        more = [f"and {len(misfits) - SHOWN} more"] if len(misfits) > SHOWN else []
        raise CheckpointError(
            f"{origin} does not fit the {part} of this configuration:\n  "
            + "\n  ".join([*misfits[:SHOWN], *more] or [str(error)])
            + "\ntake the configuration that it was trained with (config.yaml of its run folder), or another checkpoint"
        ) from error


def _misfits(found: object, expected: Mapping[str, Any], part: str) -> Iterator[str]:
    if not isinstance(found, Mapping):
        yield f"{part}: {type(found).__name__} in the checkpoint, names and tensors here"
        return
    for name in dict.fromkeys([*expected, *found]):
        there, here = (_describe(side, name) for side in (found, expected))
        if there != here:
            yield f"{part}.{name}: {there} in the checkpoint, {here} here"


def _describe(side: Mapping[str, Any], name: str) -> str:
    if name not in side:
        return "absent"
    value = side[name]
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
