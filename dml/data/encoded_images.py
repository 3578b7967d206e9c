"""Images that lie inside of larger files until they are asked for."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dml.data.decoding import Decoded, check_short_side, decode_bytes, resize_named

__all__ = ["Encoded", "EncodedImages"]


class Encoded(Protocol):
    """Encoded images by row, as bytes. It travels to data workers, so it holds places and no content."""

    @property
    def identity(self) -> bytes:
        """A hash of what the bytes depend on: a set with other content has another."""

    def __len__(self) -> int: ...

    def name(self, row: int, /) -> str:
        """What a message calls the image."""

    def sample(self, row: int, /) -> Hashable:
        """Something that is equal for equal bytes, and had without reading all of them."""

    def read(self, row: int, /) -> bytes:
        """The file of the image; raises FileError if it cannot be had as it was."""


@dataclass(frozen=True)
class EncodedImages:
    """The deterministic half of every transform, as of ImageFiles: decoded, and the short side resized.

    encoded:    one image a row.
    short_side: pixels; None leaves the images at their size.
    """

    encoded: Encoded
    short_side: int | None

    def __post_init__(self) -> None:
        check_short_side(self.short_side)

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        return resize_named(self.decoded(row).pixels, self.short_side, self.name(row))

    def decoded(self, row: int) -> Decoded:
        """The image before it is resized."""
        return decode_bytes(self.encoded.read(row), self.name(row))

    def name(self, row: int) -> str:
        """What a message calls the image."""
        return self.encoded.name(row)

    def __len__(self) -> int:
        return len(self.encoded)
