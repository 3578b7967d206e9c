"""Images inside of a page: small JPEG files as data, and many of them in one sheet."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dml.data import Records

__all__ = ["Sheet", "Thumbnails", "data_of", "sheet_of"]

SIDE = 96  # pixels of an image in a row
QUALITY = 80


class Thumbnails:
    """The images of a test set as the model sees them, square."""

    def __init__(self, records: Records, preprocess: Callable[[NDArray[np.uint8]], Tensor]) -> None:
        self._records, self._preprocess = records, preprocess

    def tensor(self, row: int) -> Tensor:
        """(3, size, size) uint8."""
        return self._preprocess(self._records.image(row))

    def image(self, row: int) -> Image.Image:
        return _picture(self.tensor(row))

    def data(self, row: int) -> str:
        """The address of a small copy, which holds the copy itself."""
        return data_of(self.tensor(row))


@dataclass(frozen=True)
class Sheet:
    """Many small images in a grid: its address, the side of each in pixels, and how many stand in a row."""

    data: str
    side: int
    columns: int
    rows: int


def data_of(pixels: Tensor, side: int = SIDE) -> str:
    """An image (3, H, W) uint8 as an address that holds it, no larger than so many pixels."""
    image = _picture(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encode(image)


def sheet_of(images: Sequence[Image.Image], side: int) -> Sheet:
    """At least one image, each shrunk or enlarged to a square of so many pixels."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for i, image in enumerate(images):
        sheet.paste(
            image.resize((side, side), Image.Resampling.LANCZOS), (i % columns * side, i // columns * side)
        )
    return Sheet(_encode(sheet), side, columns, rows)


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def _encode(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
