"""The transforms of photographs: their crops lie on whole pixels, and torch resizes these in less time than Pillow.

Training draws from an image whose short side is at ``transform.short_side`` already: the data set has it resized
when it is read, so that it can be cached. Both take (H, W, 3) uint8 and give (3, size, size) uint8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dml.data.decoding import resample, resize_short_side
from dml.data.transforms import CropBox, check_centre_crop, check_random_crop, random_area_crop

__all__ = ["PhotographEvaluationTransform", "PhotographTrainingTransform", "whole_pixels"]


@dataclass(frozen=True, kw_only=True)
class PhotographTrainingTransform:
    """Random area crop resized to a square, and a random mirror image.

    size:  side of the result in pixels.
    scale: smallest and largest share of the image's area that a crop keeps.
    ratio: smallest and largest width / height of a crop.
    flip:  probability of the mirror image.
    """

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float

    def __post_init__(self) -> None:
        check_random_crop(self.size, self.scale, self.ratio, self.flip)

    def __call__(self, image: NDArray[np.uint8], generator: np.random.Generator) -> Tensor:
        height, width = image.shape[:2]
        box = random_area_crop(width, height, self.scale, self.ratio, generator)
        left, top, right, bottom = whole_pixels(box)
        square = resample(image[top:bottom, left:right], (self.size, self.size))
        return (square.flip(2) if generator.random() < self.flip else square).contiguous()


@dataclass(frozen=True, kw_only=True)
class PhotographEvaluationTransform:
    """Short side resized to ``resize`` pixels if it has another size, then the centre square of ``size`` pixels."""

    size: int
    resize: int

    def __post_init__(self) -> None:
        check_centre_crop(self.size, self.resize)

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        image = resize_short_side(image, self.resize)
        top, left = (round((length - self.size) / 2) for length in image.shape[:2])
        square = image[top : top + self.size, left : left + self.size]
        return resample(square, (self.size, self.size)).contiguous()


def whole_pixels(box: CropBox) -> tuple[int, int, int, int]:
    """The box with its edges at the nearest whole pixels, and at least one pixel wide and high."""
    left, top, right, bottom = (round(edge) for edge in box)
    left, top = min(left, math.ceil(box[2]) - 1), min(top, math.ceil(box[3]) - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)
