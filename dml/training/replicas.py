"""Whether all processes train the same model, to the last bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from dml.distributed import gather_numbers, world_size
from dml.errors import UserError

__all__ = ["ReplicaError", "check_replicas", "checksum"]

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element
_BLOCK = 1 << 22  # elements at a time: they take 16 bytes each
_FACTOR = 6364136223846793005  # odd, so that it loses no bit: Knuth's, of linear congruences of 64 bits


class ReplicaError(UserError, RuntimeError):
    """The processes of a run hold different weights; the message names those that differ from the others."""


def check_replicas(tensors: Iterable[Tensor], step: int) -> None:
    """Compare the step and the bits of tensors among all processes.

    Raises:
        ReplicaError: they differ.
    """
    if world_size() == 1:
        return
    sums = [tuple(numbers) for numbers in gather_numbers(step, int(checksum(tensors))).tolist()]
    common = Counter(sums).most_common(1)[0][0]  # of the main process, if none is more common
    if others := [rank for rank, found in enumerate(sums) if found != common]:
        words = "process" if len(others) == 1 else "processes"
        raise ReplicaError(
            f"{words} {', '.join(map(str, others))} of 0 .. {len(sums) - 1} came to step {sums[others[0]][0]} with "
            f"other weights than the rest, which is at step {common[0]}: look for a GPU of another kind or a broken "
            "one, a broken link, or a file system that shows an old checkpoint; the checkpoints stay as they were"
        )


def checksum(tensors: Iterable[Tensor]) -> Tensor:
    """A number of 64 bits, on the device, that changes with any bit: ``Σ_i (2i + 1) · bits_i`` of each tensor.

    The bits of an element are taken as an integer, and all sums are modulo 2^64, hence exact in any order. An odd
    factor loses nothing, so one other element always shows; any other difference is missed once in 2^64.
    """
    total = torch.zeros((), dtype=torch.int64)
    for tensor in tensors:
        bits = tensor.detach().reshape(-1).view(_BITS[tensor.element_size()])
        for block in torch.split(bits, _BLOCK):
            odd = torch.arange(1, 2 * len(block) + 1, 2, device=block.device)
            total = (odd * block).sum() + total * _FACTOR
    return total
