"""The modes in which a model computes: training or evaluation, and in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["at_least_float32", "evaluation_mode", "full_precision"]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the block; afterwards each part has its own mode back.

    Part by part, because frozen BatchNorm layers are in evaluation mode inside a model that trains.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for the block, on the device of the tensor; without autocast it does nothing."""
    kind = tensor.device.type
    known = torch.amp.is_autocast_available(kind)  # not for meta, about which torch refuses to answer
    return torch.autocast(kind, enabled=False) if known and torch.is_autocast_enabled(kind) else nullcontext()


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself if it is float32 or float64, a copy in float32 if its type is coarser."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
