"""From annotations to the two halves of a data set, with the images in their files or in a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dml.data.annotations import Annotations, Row, first_few
from dml.data.cache import cached
from dml.data.checking import check_images, check_option
from dml.data.encoded_images import EncodedImages
from dml.data.image_files import ImageFiles
from dml.data.records import ImageStore, Records, TrainTest
from dml.distributed import is_main
from dml.errors import InputError

__all__ = ["Loading", "train_test"]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How the images of a data set get into memory.

    short_side:   pixels that the short side is resized to when an image is read; None leaves it.
    cache:        keep the resized images in one file.
    cache_folder: where.
    check:        decode every image once at the start; "auto" does not look at all of a large set. See check_images.
    open_images:  finds the files, by the folder that they are relative to, their names, and short_side.
    """

    short_side: int | None
    cache: bool
    cache_folder: str
    check: bool | str = False
    open_images: Callable[[Path, tuple[str, ...], int | None], ImageFiles | EncodedImages] = ImageFiles

    def __post_init__(self) -> None:
        check_option(self.check)

    def store(self, name: str, folder: Path, files: Sequence[str]) -> ImageStore:
        images = self.open_images(folder, tuple(files), self.short_side)
        if is_main():
            check_images(images, self.cache_folder, name, check=self.check)
        return cached(images, self.cache_folder, name) if self.cache else images


def train_test(name: str, annotations: Annotations, loading: Loading) -> TrainTest:
    """The images as records, classes in the order of their sorted names.

    Raises:
        InputError: a class has images in both halves, or one of the halves is empty.
    """
    rows = annotations.rows
    halves = _classes_by_half(rows)
    names = tuple(sorted({row.label for row in rows}))
    label = {name: i for i, name in enumerate(names)}
    files = tuple(row.file for row in rows)
    everything = Records(
        loading.store(name, annotations.folder, files),
        np.arange(len(rows)),
        np.array([label[row.label] for row in rows], dtype=np.int64),
        names,
        files,
        np.array([row.role == "query" for row in rows]),
        annotations.levels,
    )
    return TrainTest(*(_half(everything, rows, half, halves[half]) for half in ("train", "test")))


def _half(everything: Records, rows: Sequence[Row], half: str, labels: set[str]) -> Records:
    """The images of a half, with queries and gallery apart if its images have roles."""
    records = everything.select_classes(sorted(labels))
    has_roles = any(row.role for row in rows if row.split == half)
    return records if has_roles else replace(records, is_query=None)


def _classes_by_half(rows: Sequence[Row]) -> dict[str, set[str]]:
    halves = {half: {row.label for row in rows if row.split == half} for half in ("train", "test")}
    if both := sorted(halves["train"] & halves["test"]):
        raise InputError(
            f"{len(both)} classes have images in train and in test, {first_few(both)}: what is learned is measured on "
            "classes never seen, so give all images of a class to one of the two, or leave the split out"
        )
    if not (halves["train"] and halves["test"]):
        side = "train" if halves["train"] else "test"
        raise InputError(
            f"all {len(halves[side])} classes are in {side}: give some to the other half. Without a split of your own "
            "the hash of its name decides for each class, and of a few all may fall on one side: add classes, or say "
            "which of them train and which test"
        )
    return halves
