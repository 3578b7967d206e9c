"""From a decoded image to the square that the model sees: a random half for training, a fixed one for evaluation.

Both take (H, W, 3) uint8 and give (3, size, size) uint8. The model normalises on its own device, so a batch
travels as bytes. Of photographs the training draws from what has its short side at ``transform.short_side``
already: the data set resizes them when they are read, so that they can be cached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dml.data.decoding import resample, resize_short_side
from dml.errors import InputError

__all__ = [
    "CropBox",
    "EvaluationTransform",
    "TrainingTransform",
    "check_centre_crop",
    "check_random_crop",
    "random_area_crop",
    "whole_pixels",
]

CropBox = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True, kw_only=True)
class TrainingTransform:
    """Random area crop resized to a square, and a random mirror image.

    size:         side of the result in pixels.
    scale:        smallest and largest share of the image's area that a crop keeps.
    ratio:        smallest and largest width / height of a crop.
    flip:         probability of the mirror image.
    whole_pixels: crops lie on whole pixels, which torch resizes in less time than Pillow those on parts of them.

    Raises InputError if one is out of range.
    """

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        check_random_crop(self.size, self.scale, self.ratio, self.flip)

    def __call__(self, image: NDArray[np.uint8], generator: np.random.Generator) -> Tensor:
        height, width = image.shape[:2]
        box = random_area_crop(width, height, self.scale, self.ratio, generator)
        if self.whole_pixels:
            left, top, right, bottom = whole_pixels(box)
            square = resample(image[top:bottom, left:right], (self.size, self.size))
        else:
            square = _resize_part(image, box, self.size)
        return (square.flip(2) if generator.random() < self.flip else square).contiguous()


@dataclass(frozen=True, kw_only=True)
class EvaluationTransform:
    """Short side resized to ``resize`` pixels, then the centre square of ``size`` pixels.

    whole_pixels: two steps, as written: an image whose short side has that size keeps every pixel of the square.
                  Otherwise in one, from a square that may begin within a pixel.

    Raises InputError if a size is below 1, or the square larger than what it is cut from.
    """

    size: int
    resize: int
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        check_centre_crop(self.size, self.resize)

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        if self.whole_pixels:
            image = resize_short_side(image, self.resize)
            top, left = (round((length - self.size) / 2) for length in image.shape[:2])
            square = image[top : top + self.size, left : left + self.size]
            return resample(square, (self.size, self.size)).contiguous()
        height, width = image.shape[:2]
        side = self.size / self.resize * min(width, height)
        box = _box((width - side) / 2, (height - side) / 2, side, side, width, height)
        return _resize_part(image, box, self.size)


def random_area_crop(
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: np.random.Generator,
) -> CropBox:
    """A crop box of random area and aspect ratio; the largest centred box of that ratio if ten draws do not fit."""
    for _ in range(10):
        area = width * height * generator.uniform(*scale)
        aspect = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if crop_width <= width and crop_height <= height:
            left = generator.uniform(0, width - crop_width)
            top = generator.uniform(0, height - crop_height)
            return _box(left, top, crop_width, crop_height, width, height)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    crop_width, crop_height = min(width, height * aspect), min(height, width / aspect)
    return _box((width - crop_width) / 2, (height - crop_height) / 2, crop_width, crop_height, width, height)


def _box(left: float, top: float, box_width: float, box_height: float, width: int, height: int) -> CropBox:
    """A box held inside the image, which rounding may otherwise leave by the last bit."""
    return max(left, 0), max(top, 0), min(left + box_width, width), min(top + box_height, height)


def whole_pixels(box: CropBox) -> tuple[int, int, int, int]:
    """The box with its edges at the nearest whole pixels, and at least one pixel wide and high."""
    left, top, right, bottom = (round(edge) for edge in box)
    left, top = min(left, math.ceil(box[2]) - 1), min(top, math.ceil(box[3]) - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _resize_part(image: NDArray[np.uint8], box: CropBox, size: int) -> Tensor:
    square = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def check_random_crop(size: int, scale: tuple[float, float], ratio: tuple[float, float], flip: float) -> None:
    """Refuse options of a random crop that are out of range, with an InputError."""
    _check_size(size)
    for name, (low, high) in (("scale", scale), ("ratio", ratio)):
        if not 0 < low <= high:
            raise InputError(f"transform.train.{name}={[low, high]}: give two numbers with 0 < low <= high")
    if scale[1] > 1:
        raise InputError(f"transform.train.scale={list(scale)}: a crop keeps at most 1, the whole image")
    if not 0 <= flip <= 1:
        raise InputError(f"transform.train.flip={flip}: a probability lies in [0, 1]")


def check_centre_crop(size: int, resize: int) -> None:
    """Refuse a centre square that is larger than the image, with an InputError."""
    _check_size(size)
    if resize < size:
        raise InputError(
            f"transform.evaluation.resize={resize} is smaller than transform.size={size}: "
            "the centre square would not fit; make resize at least as large as size"
        )


def _check_size(size: int) -> None:
    if size < 1:
        raise InputError(f"transform.size={size} must be a positive number of pixels")
