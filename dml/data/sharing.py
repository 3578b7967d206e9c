"""What a data worker needs of many images, passed to it by shared memory.

Where workers are not forks of their parent, as on macOS, on Windows and by forkserver, all that they get is pickled,
for each anew. A tensor is then passed as a handle of memory that both see, which its sender has to keep until the
worker runs; an array or a list of names would be copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SharedImages", "pack_names", "unpack_names"]


class SharedImages:
    """Images of one size in memory, (n, H, W, 3) uint8, RGB, of which all processes on a machine have one copy."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = torch.from_numpy(images)

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self._images.numpy()[row]
        return image

    def __len__(self) -> int:
        return len(self._images)


def pack_names(names: Sequence[str]) -> Tensor:
    """Names of files as one tensor of bytes, each ended by a zero, which no name contains."""
    text = "".join(f"{name}\0" for name in names)
    return torch.from_numpy(np.frombuffer(bytearray(text.encode("utf-8", "surrogateescape")), np.uint8))


def unpack_names(packed: Tensor) -> tuple[str, ...]:
    """The names that were packed."""
    return tuple(packed.numpy().tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
