"""Collages: tiles that carry the label among tiles that do not, for the controlled study of what a pooling selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dml.data.cifar100 import read_cifar100
from dml.data.emoji import read_emoji
from dml.data.protocols import hashed_half
from dml.data.records import Records, TrainTest
from dml.data.target_share import TargetShare
from dml.data.transforms import random_area_crop
from dml.errors import InputError
from dml.randomness import numpy_generator

__all__ = ["CollageImages", "Tiles", "collage_dataset"]

BASES = ("emoji", "cifar100")
SUBCLASSES_TO_TRAIN = 3  # of the five of a super-class, in the order of their numbers


@dataclass(frozen=True, eq=False)
class Tiles:
    """What the collages of one half of a data set are made of.

    targets:     (n, S, S, 3) uint8, RGB.
    labels:      (n,) int64, index into class_names.
    class_names: every class once.
    files:       n names, for people.
    backgrounds: (m, S, S, 3) uint8, RGB.
    """

    targets: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    backgrounds: NDArray[np.uint8]


class CollageImages:
    """A grid of g × g tiles, k of which are targets of one class; the others are background, and all lie at random.

    Row i shows target i, with k − 1 other images of its class, each at most once while there are enough. Taken as an
    item, a row is always the same image, with whole tiles; ``draw`` makes a new one of it, with random crops.

    Args:
        tiles: what the collages are made of.
        grid: g ≥ 1; 1 shows the target alone (the distilled companion).
        targets_per_image: k, from 1 to g².
        size: pixels of a side of the collage, a multiple of g.
        crop: smallest share of a tile's area that a drawn one shows, in (0, 1].
        seed: of the images that are always the same.
        target_place: the targets lie there and at the places after it, counted row after row from 0; None draws them.

    Raises:
        InputError: a number out of range.
    """

    def __init__(
        self,
        tiles: Tiles,
        *,
        grid: int,
        targets_per_image: int,
        size: int,
        crop: float,
        seed: int,
        target_place: int | None = None,
    ) -> None:
        _check(grid, targets_per_image, size, crop)
        if target_place is not None and not 0 <= target_place <= grid**2 - targets_per_image:
            raise InputError(
                f"dataset.target_place={target_place}: on a grid of {grid} × {grid} the first of {targets_per_image} "
                f"targets has the places 0 to {grid**2 - targets_per_image}; null draws them"
            )
        self._target_place = target_place
        self.grid, self._count, self._tile_size = grid, targets_per_image, size // grid
        self._tiles, self._crop, self._seed = tiles, crop, seed
        self._images_of = _rows_of_classes(tiles.labels)
        self._shared: list[Tensor] | None = (
            None  # the arrays of the tiles, once they have been sent to a worker
        )

    def __len__(self) -> int:
        return len(self._tiles.labels)

    def __getstate__(self) -> dict[str, Any]:
        """What a data worker gets: the images by shared memory, and no names."""
        if self._shared is None:
            parts = (self._tiles.targets, self._tiles.labels, self._tiles.backgrounds)
            self._shared = [torch.from_numpy(part) for part in parts]
        return {**self.__dict__, "_tiles": None, "_images_of": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        targets, labels, backgrounds = (tensor.numpy() for tensor in state["_shared"])
        self._tiles = Tiles(targets, labels, (), (), backgrounds)
        self._images_of = _rows_of_classes(labels)

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        generator = self._fixed(row)
        return self._compose(row, self._places(generator), generator, crop=1.0)

    def draw(self, row: int, generator: np.random.Generator) -> NDArray[np.uint8]:
        """A new collage of a row, (g·S, g·S, 3) uint8, RGB."""
        return self._compose(row, self._places(generator), generator, crop=self._crop)

    def target_tiles(self, row: int) -> NDArray[np.bool_]:
        """Where the targets lie in the image that the row always is, (g, g)."""
        mask = np.zeros(self.grid**2, dtype=bool)
        mask[self._places(self._fixed(row))] = True
        return mask.reshape(self.grid, self.grid)

    def _fixed(self, row: int) -> np.random.Generator:
        return numpy_generator(self._seed, "collage", row)

    def _places(self, generator: np.random.Generator) -> NDArray[np.int64]:
        if self._target_place is not None:
            return np.arange(self._target_place, self._target_place + self._count)
        return generator.choice(self.grid**2, self._count, replace=False)

    def _compose(
        self, row: int, places: NDArray[np.int64], generator: np.random.Generator, *, crop: float
    ) -> NDArray[np.uint8]:
        size, tiles = self._tile_size, self._tiles
        picked = generator.integers(len(tiles.backgrounds), size=self.grid**2)
        pictures = [tiles.backgrounds[i] for i in picked]
        for place, target in zip(places, self._targets(row, generator), strict=True):
            pictures[place] = tiles.targets[target]
        collage = np.empty((self.grid * size, self.grid * size, 3), dtype=np.uint8)
        for place, picture in enumerate(pictures):
            top, left = (size * i for i in divmod(place, self.grid))
            collage[top : top + size, left : left + size] = _tile(picture, size, crop, generator)
        return collage

    def _targets(self, row: int, generator: np.random.Generator) -> list[int]:
        """The row and k − 1 others of its class."""
        others = self._images_of[self._tiles.labels[row]]
        others = others[others != row] if len(others) > 1 else others
        more = generator.choice(others, self._count - 1, replace=len(others) < self._count - 1)
        return [row, *more.tolist()]


def _rows_of_classes(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def collage_dataset(
    root: str,
    *,
    base: str,
    grid: int,
    targets_per_image: int,
    size: int,
    crop: float,
    seed: int,
    target_groups: list[str],
    background_groups: list[str],
    target_place: int | None = None,
) -> TrainTest:
    """Collages of emoji or of CIFAR-100, with other targets and other backgrounds in train and test.

    ``emoji``: a class is an emoji, its group says whether it is a target or background, and the hash of its name on
    which side it lies. ``cifar100``: a class is a super-class, the first three of its sub-classes train and the other
    two test, as published.

    Args:
        root: the folder of the base, ``data/emoji`` or the one that holds ``cifar-100-python``.
        target_groups, background_groups: Unicode groups, or super-classes.
        grid, targets_per_image, size, crop, seed, target_place: see CollageImages.

    Raises:
        MissingFileError: the base is not there.
        InputError: another base, a group that it does not have or that is on both sides, or a number out of range.
    Source: Gürbüz, Şener, Alatan, ICCV 2023, the controlled study.
    """
    if base not in BASES:
        raise InputError(f"dataset.base={base}; accepted: {', '.join(BASES)}")
    read = _emoji_tiles if base == "emoji" else _cifar100_tiles
    halves = read(root, target_groups, background_groups)
    options: dict[str, Any] = {
        "grid": grid,
        "targets_per_image": targets_per_image,
        "size": size,
        "crop": crop,
    }
    options |= {"seed": seed, "target_place": target_place}
    return TrainTest(*(_records(tiles, CollageImages(tiles, **options)) for tiles in halves))


def _records(tiles: Tiles, images: CollageImages) -> Records:
    measures = {"selection_accuracy": TargetShare(images.target_tiles)}
    rows = np.arange(len(images))
    return Records(images, rows, tiles.labels, tiles.class_names, tiles.files, measures=measures)


def _emoji_tiles(root: str, target_groups: list[str], background_groups: list[str]) -> list[Tiles]:
    read = read_emoji(root)
    groups = np.array(read.groups)
    _check_groups(target_groups, background_groups, set(read.groups))
    half_of = np.array([hashed_half(name) for name in read.class_names])[read.labels]
    return [
        _select(
            read.images,
            read.labels,
            read.class_names,
            read.files,
            np.flatnonzero(np.isin(groups, target_groups) & (half_of == half)),
            np.flatnonzero(np.isin(groups, background_groups) & (half_of == half)),
        )
        for half in ("train", "test")
    ]


def _cifar100_tiles(root: str, target_groups: list[str], background_groups: list[str]) -> list[Tiles]:
    read = read_cifar100(root)
    _check_groups(target_groups, background_groups, set(read.superclass_names))
    names = np.array(read.superclass_names)[read.superclasses]
    trains = read.subclass_ranks < SUBCLASSES_TO_TRAIN
    return [
        _select(
            read.images,
            read.superclasses,
            read.superclass_names,
            tuple(f"{name}/{i}" for i, name in enumerate(names)),
            np.flatnonzero(np.isin(names, target_groups) & half),
            np.flatnonzero(np.isin(names, background_groups) & half),
        )
        for half in (trains, ~trains)
    ]


def _select(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    files: tuple[str, ...],
    targets: NDArray[np.int64],
    backgrounds: NDArray[np.int64],
) -> Tiles:
    """Targets and backgrounds of one half, with labels counted anew from 0."""
    kept, counted = np.unique(labels[targets], return_inverse=True)
    return Tiles(
        images[targets],
        counted.astype(np.int64),
        tuple(class_names[i] for i in kept),
        tuple(files[i] for i in targets),
        images[backgrounds],
    )


def _tile(
    picture: NDArray[np.uint8], size: int, crop: float, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """An image, or a part of it with sides between 4:5 and 5:4, as a tile."""
    side = picture.shape[0]
    box = (0.0, 0.0, float(side), float(side))
    if crop < 1:
        box = random_area_crop(side, side, (crop, 1.0), (4 / 5, 5 / 4), generator)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=box))


def _check(grid: int, targets_per_image: int, size: int, crop: float) -> None:
    if grid < 1:
        raise InputError(f"dataset.grid={grid}: give 1 or more; 1 shows the target alone, published with 2")
    if not 1 <= targets_per_image <= grid**2:
        raise InputError(
            f"dataset.targets_per_image={targets_per_image}: a grid of {grid} × {grid} has room for 1 to {grid**2}"
        )
    if size < 1 or size % grid:
        raise InputError(
            f"dataset.size={size}: a collage of {grid} × {grid} tiles needs a multiple of {grid}: give another "
            "transform.size; tiles are published with 32 pixels"
        )
    if not 0 < crop <= 1:
        raise InputError(f"dataset.crop={crop}: the share of a tile that is shown lies in (0, 1]")


def _check_groups(targets: list[str], backgrounds: list[str], known: set[str]) -> None:
    for key, groups in (("target_groups", targets), ("background_groups", backgrounds)):
        if not groups:
            raise InputError(f"dataset.{key} is empty; accepted: {', '.join(sorted(known))}")
        if unknown := [name for name in groups if name not in known]:
            raise InputError(
                f"dataset.{key} has {unknown[0]!r}, which is no group; accepted: {', '.join(sorted(known))}"
            )
    if both := sorted(set(targets) & set(backgrounds)):
        raise InputError(
            f"{both[0]!r} is in dataset.target_groups and in dataset.background_groups: leave it in one"
        )
