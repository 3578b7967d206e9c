"""From which similarity on an image is a copy of another: measured on copies that are made of the images themselves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.model import EmbeddingModel

__all__ = ["ALTERATIONS", "copy_threshold", "similarity_of_copies"]

FOUND = 0.99  # the share of copies that reach the threshold
SAMPLE = 200  # images of which copies are made


def _by_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(io.BytesIO(file.getvalue()))


def _without_its_edge(image: Image.Image) -> Image.Image:
    """2.5 % of each side cut off."""
    width, height = image.size
    left, top = round(width * 0.025), round(height * 0.025)
    return image.crop((left, top, max(left + 1, width - left), max(top + 1, height - top)))


def _half_as_large(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BICUBIC)


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 50": _by_jpeg,
    "5 % cut off": _without_its_edge,
    "half the size": _half_as_large,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}
SOUGHT = ("JPEG of quality 50", "5 % cut off", "half the size")
"""What a threshold is made for. A model that was not trained to take a mirror image for the same does not."""


def similarity_of_copies(
    model: EmbeddingModel, images: Sequence[Image.Image], names: Sequence[str] = SOUGHT
) -> dict[str, NDArray[np.float64]]:
    """For each alteration, the similarity of each image to its altered copy, (n,)."""
    plain = model.embed(images).numpy().astype(np.float64)
    found = {}
    for name in names:
        altered = model.embed([ALTERATIONS[name](image) for image in images]).numpy().astype(np.float64)
        found[name] = (plain * altered).sum(axis=1)
    return found


def copy_threshold(model: EmbeddingModel, images: Sequence[Image.Image]) -> float:
    """The similarity that 99 of 100 copies of each kind of `SOUGHT` reach."""
    similarities = similarity_of_copies(model, images)
    return float(min(np.quantile(values, 1 - FOUND, method="lower") for values in similarities.values()))
