"""An imitation of what a GPU computes otherwise than a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["OtherArithmetic"]


class OtherArithmetic(TorchFunctionMode):
    """On a GPU, also a pretended one, sums are added up in another order and topk lists equals in another order."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        change = CHANGES.get(getattr(func, "__name__", ""))
        if change is None or not args[0].is_cuda or not args[0].is_floating_point():
            return func(*args, **(kwargs or {}))
        return change(func, *args, **(kwargs or {}))


def _matmul(func: Callable[..., Tensor], x: Tensor, y: Tensor) -> Tensor:
    even, odd = x[..., ::2], x[..., 1::2]
    return func(odd.flip(-1), y[1::2].flip(0)) + func(even.flip(-1), y[::2].flip(0))


def _sum(func: Callable[..., Tensor], x: Tensor, dim: int) -> Tensor:
    return x.cumsum(dim).select(dim, -1)


def _norm(func: Callable[..., Tensor], x: Tensor, **options: Any) -> Tensor:
    if "dtype" not in options:
        return func(x, **options)
    return x.to(options["dtype"]).square().cumsum(options["dim"])[:, -1:].sqrt()


def _topk(func: Callable[..., Any], x: Tensor, k: int, dim: int) -> Any:
    values, places = func(x.flip(dim), k, dim=dim)
    return torch.return_types.topk((values, x.shape[dim] - 1 - places))


CHANGES = {
    "matmul": _matmul,
    "__matmul__": _matmul,
    "topk": _topk,
    "sum": _sum,
    "linalg_vector_norm": _norm,
}
