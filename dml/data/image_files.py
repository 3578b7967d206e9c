"""Images that stay in their files until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dml.data.decoding import Decoded, check_short_side, decode_file, resize_named
from dml.data.sharing import pack_names, unpack_names

__all__ = ["ImageFiles"]


@dataclass(frozen=True)
class ImageFiles:
    """The deterministic half of every transform: a file decoded, and its short side resized.

    folder:     what the files are relative to.
    files:      one file a row.
    short_side: pixels; None leaves the images at their size.
    """

    folder: Path
    files: tuple[str, ...]
    short_side: int | None

    def __post_init__(self) -> None:
        check_short_side(self.short_side)

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        return resize_named(self.decoded(row).pixels, self.short_side, self.name(row))

    def decoded(self, row: int) -> Decoded:
        """The image before it is resized."""
        return decode_file(self.folder / self.files[row])

    def name(self, row: int) -> str:
        """What a message calls the image."""
        return str(self.folder / self.files[row])

    def __len__(self) -> int:
        return len(self.files)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.folder, self._packed, self.short_side)

    @cached_property
    def _packed(self) -> Tensor:
        return pack_names(self.files)


def _unpickle(folder: Path, files: Tensor, short_side: int | None) -> ImageFiles:
    return ImageFiles(folder, unpack_names(files), short_side)
