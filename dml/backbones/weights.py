"""Filling a network from a file of tensors, with every name and every shape checked."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dml.errors import InputError

__all__ = ["load_exactly", "read_tensors"]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a file of named tensors to the CPU; code inside the file is never run.

    Raises InputError if the file is damaged or holds anything other than a mapping of names to tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise InputError(
            f"{path} is damaged or holds more than plain tensors; take another: {error}"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds no weights: expected one mapping of names to tensors (a state dict).")
    return dict(content)


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], *, source: str | Path) -> None:
    """Copy `tensors` into `network`, which must agree in every name and every shape.

    `num_batches_tracked` may be missing: files older than that counter lack it, and frozen or
    momentum-driven BatchNorm never reads it.
    Raises InputError that names the first tensor which is missing, superfluous or of another shape.
    """
    expected = network.state_dict()
    for name, target in expected.items():
        if name not in tensors:
            if name.endswith("num_batches_tracked"):
                continue
            raise InputError(f"{source} lacks {name!r}: it holds the weights of another network.")
        if tensors[name].shape != target.shape:
            found, wanted = tuple(tensors[name].shape), tuple(target.shape)
            raise InputError(f"{source} has {name!r} of shape {found}, but the network needs {wanted}.")
    if superfluous := [name for name in tensors if name not in expected]:
        raise InputError(f"{source} has {superfluous[0]!r}, which the network does not know.")
    network.load_state_dict(expected | dict(tensors))
