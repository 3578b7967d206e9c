"""One test of a part, and what several tests of modules have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dml.config import TrainConfig

__all__ = ["Attempt", "Attempts", "difference", "normal", "unreached"]

CLOSE = 1e-4  # relative; what is computed in other orders agrees to this


class Attempt(NamedTuple):
    """promise: what must hold; run: says what is wrong, or None; vital: without it nothing else can be tried."""

    promise: str
    run: Callable[[], str | None]
    vital: bool = False


Attempts = Callable[[TrainConfig], Iterable[Attempt]]


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def difference(found: Any, expected: Any, what: str, *, exact: bool = False) -> str | None:
    """A sentence, if two results, tensors or tuples of them, are not equal, but for rounding unless exact."""
    if isinstance(found, tuple) or isinstance(expected, tuple):
        pairs = zip(found, expected, strict=True)
        return next(filter(None, (difference(*pair, what, exact=exact) for pair in pairs)), None)
    if found is None or expected is None:
        return None if found is expected else f"{what}: {type(found).__name__} and {type(expected).__name__}"
    if found.shape != expected.shape:
        return f"{what}: shapes {tuple(found.shape)} and {tuple(expected.shape)}"
    off = (found.double() - expected.double()).abs().max().item()
    allowed = 0.0 if exact else CLOSE * max(expected.abs().max().item(), 1e-3)
    return None if off <= allowed else f"{what}: they differ by up to {off:.2g}"


def unreached(module: nn.Module) -> str | None:
    """A sentence, after a backward pass, on the parameters that got no gradient, or none that is finite."""
    learned = {name: value for name, value in module.named_parameters() if value.requires_grad}
    if lost := [name for name, value in learned.items() if value.grad is None]:
        return (
            f"no gradient reaches {', '.join(lost[:3])}: use it in forward(), or do not make it a parameter"
        )
    wild = [
        name for name, value in learned.items() if value.grad is not None and not value.grad.isfinite().all()
    ]
    return f"the gradient of {', '.join(wild[:3])} is not finite" if wild else None
