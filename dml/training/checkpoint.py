"""Checkpoints that are whole or absent, and that cannot run code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write to a temporary file beside the path, flush it to the disk, then rename: the old file stays until then.

    Raises:
        OSError: the disk is full, or the file cannot be written; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)  # what was written of it would keep the disk full
        if isinstance(error.__context__, OSError):  # torch hides it behind an error of its own
            raise error.__context__ from None
        raise
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read tensors and plain values onto the CPU; a file that holds anything else is refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of this project, or it would run code.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path}: expected checkpoints/last.pt or best.pt in a run folder"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged or no checkpoint of plain tensors; take another: {error}"
        ) from error
    if not isinstance(state, dict) or "model" not in state:
        raise ValueError(f"{path} is no checkpoint of this project: it holds no model; take another")
    return state
