"""The processes of a run, started by torchrun: their shares, and tensors that all of them see.

Without torchrun there is one process, and everything here is the identity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = [
    "barrier",
    "broadcast",
    "copy_from_main",
    "deal",
    "gather_numbers",
    "gather_rows",
    "is_main",
    "local_rank",
    "process_group",
    "rank",
    "share",
    "sum_gradients",
    "world_size",
]

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, for the block.

    A block that fails leaves the group as it is: taking leave would wait for the others.

    gloo's threads need the interpreter to let go of the tensors of the last call. One that asks for it while Python
    ends aborts the process, so no thread outlives the group, and a failure gives them a moment.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    # Imported later (torch.compile does), its default arguments would hold the group, and the threads, until the end.
    import torch.distributed.nn

    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    except BaseException:
        time.sleep(0.1)
        raise
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """The number of this process on its machine, from 0: the GPU it takes."""
    return int(os.environ["LOCAL_RANK"]) if dist.is_torchelastic_launched() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def share(count: int) -> slice:
    """The part of ``count`` things that falls to this process; shares are in the order of ranks and differ by one."""
    return slice(rank() * count // world_size(), (rank() + 1) * count // world_size())


def deal() -> slice:
    """The part of things that falls to this process if they are dealt out one by one: of sorted ones, a fair share."""
    return slice(rank(), None, world_size())


def broadcast(value: T) -> T:
    """The value of the main process, in every process. It is pickled."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Give the tensors of every process, in place, the bits of those of the main one."""
    if world_size() == 1:
        return
    for flat, parts in _by_kind(tensors):
        dist.broadcast(flat.view(torch.uint8), src=0)  # bytes: a bool is none of gloo's types
        for part, bits in zip(parts, torch.split(flat, [p.numel() for p in parts]), strict=True):
            part.copy_(bits.view(part.shape))


def barrier() -> None:
    """Wait until every process has come this far."""
    if world_size() > 1:
        gather_numbers(0)


def gather_numbers(*numbers: int) -> Tensor:
    """The numbers of every process, (processes, len(numbers)) int64, on the CPU: nothing waits for a GPU."""
    own = torch.tensor(numbers, dtype=torch.int64)
    if world_size() == 1:
        return own.unsqueeze(0)
    return torch.stack(_gather(own))


def gather_rows(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all processes one below the other, in the order of ranks: (n, ...) -> (Σ sizes, ...).

    The gradient is that of the own rows alone. So every process must compute the same loss from the result: then
    the sum over processes of the gradients of what they own is the gradient of that one loss.

    sizes: the number of rows of each process.
    """
    if len(sizes) == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows, sizes)
    return gathered


def _gather(tensor: Tensor) -> list[Tensor]:
    """The tensors of all processes, which have one shape."""
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor)
    return parts


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        start = sum(sizes[: rank()])
        ctx.own = slice(start, start + len(rows))
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])  # the collective wants equal shapes
        padded[: len(rows)] = rows
        return torch.cat([part[:size] for part, size in zip(_gather(padded), sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][ctx.own], None


def sum_gradients(parts: nn.Module, replicas: nn.Module) -> None:
    """Make the gradients of both modules the same in every process.

    parts: every process holds the gradient of its own rows; they are added up.
    replicas: every process holds the whole gradient; their mean irons out differences of rounding.

    One sum after the backward pass, not DistributedDataParallel: exact for any number of processes, for shares of
    different size, for parameters without gradient and for two passes over micro-batches.
    """
    if world_size() == 1:
        return
    whole = list(_gradients(replicas.parameters()))
    for gradient in whole:
        gradient.div_(world_size())
    for flat, same in _by_kind(whole + list(_gradients(parts.parameters()))):
        dist.all_reduce(flat)
        for gradient, total in zip(same, torch.split(flat, [g.numel() for g in same]), strict=True):
            gradient.copy_(total.view(gradient.shape))


def _gradients(parameters: Iterable[nn.Parameter]) -> Iterator[Tensor]:
    return (p.grad for p in parameters if p.grad is not None)


def _by_kind(tensors: Iterable[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """All tensors of one type on one device as one flat copy, and they themselves."""
    found = list(tensors)
    for kind in dict.fromkeys((t.dtype, t.device) for t in found):
        same = [t.detach() for t in found if (t.dtype, t.device) == kind]
        yield torch.cat([t.reshape(-1) for t in same]), same
