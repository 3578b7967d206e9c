"""From which similarity on an image is a copy of another: measured on copies that are made of the images themselves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.model import EmbeddingModel

__all__ = [
    "ALTERATIONS",
    "CENTRES",
    "LIKE",
    "SAMPLE",
    "SIDE",
    "SOUGHT",
    "TURNS",
    "copy_threshold",
    "likeness",
    "outlines",
    "similarity_of_copies",
]

FOUND = 0.999  # the share of copies that reach the threshold
SAMPLE = 200  # images of which copies are made
LIKE = 0.96  # likeness of pixels from which on an image is a copy: 99 of 100 of each kind of SOUGHT have it
SIDE = 16  # of the outlines, in pixels
CENTRES = (1.0, 0.95)  # shares of width and height that are compared


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
TURNS: Sequence[Callable[[NDArray[Any]], NDArray[Any]]] = (
    lambda pixels: pixels[:, ::-1],
    lambda pixels: pixels[::-1],
    lambda pixels: pixels[::-1, ::-1],
    lambda pixels: pixels.swapaxes(0, 1),
    lambda pixels: pixels.swapaxes(0, 1)[::-1],
    lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
)
"""The seven ways to mirror and turn the pixels (H, W, C) of an image."""
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
    """The similarity that all copies of each kind of `SOUGHT` reach, or all but one of a thousand."""
    similarities = similarity_of_copies(model, images)
    return float(min(np.quantile(values, 1 - FOUND, method="lower") for values in similarities.values()))


def outlines(image: Image.Image) -> NDArray[np.float32]:
    """The whole image and its centre, each in 16 × 16 pixels, as unit vectors of the mean 0: (2, 768)."""
    found = []
    for share in CENTRES:
        edges = (1 - share) / 2, (1 + share) / 2
        box = (
            edges[0] * image.width,
            edges[0] * image.height,
            edges[1] * image.width,
            edges[1] * image.height,
        )
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX, box=box)
        pixels = np.asarray(small, np.float32).ravel()
        pixels = pixels - pixels.mean()
        found.append(pixels / max(float(np.linalg.norm(pixels)), 1.0))
    return np.stack(found)


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Correlation of the pixels of two images, by their outlines; also of one with the centre of the other."""
    products = a @ b.T
    return float(max(products[0, 0], products[0, 1], products[1, 0]))
