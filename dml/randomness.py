"""Randomness as a pure function of (seed, step, position): no state to store, none to lose.

Whatever draws a random number asks here for a fresh generator, named by what it is for and by where in the
run it stands. So a batch does not depend on the number of data workers, on the number of processes, or on
whether the run was interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["derive_seed", "numpy_generator", "torch_generator", "torch_seed"]


def derive_seed(*key: int | str) -> int:
    """A seed of 63 bits from a key such as ``(seed, "crop", step, position)``; equal keys give equal seeds."""
    digest = hashlib.blake2b("\x1f".join(map(repr, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def numpy_generator(*key: int | str) -> np.random.Generator:
    """A numpy generator that depends on the key alone."""
    return np.random.Generator(np.random.Philox(derive_seed(*key)))


def torch_generator(*key: int | str) -> torch.Generator:
    """A torch generator (on the CPU) that depends on the key alone."""
    return torch.Generator().manual_seed(derive_seed(*key))


@contextmanager
def torch_seed(*key: int | str) -> Iterator[None]:
    """Seed torch's global generators for the block, and restore them after it.

    For code that takes no generator, such as the initialisation of layers and dropout.
    """
    # a GPU that nothing has used yet holds no state, and asking would take memory on it, also for a run on the CPU
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive_seed(*key))
        yield
