"""What the annotations of a data set say of its images, checked before anything is trained on it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from dml.data.cache import cached
from dml.data.image_files import ImageFiles
from dml.data.records import ImageStore, Records, TrainTest

__all__ = [
    "IMAGE",
    "IMAGE_SUFFIXES",
    "NUMBER",
    "WORD",
    "Annotations",
    "Loading",
    "Row",
    "check_counts",
    "check_files",
    "find_folder",
    "first_few",
    "images_below",
    "read_lines",
    "refuse_outside",
    "refuse_repeated",
    "train_test",
]

NUMBER, WORD = r"\d+", r"\S+"
IMAGE = r"\S(?:.*\S)?\.(?:jpe?g|png)"  # may hold blanks
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)


class Row(NamedTuple):
    """One image.

    file:  relative to the folder of the data set, with forward slashes.
    label: name of its class.
    split: "train" or "test".
    role:  "query" or "gallery"; empty for an image that is both.
    """

    file: str
    label: str
    split: str
    role: str = ""


class Annotations(NamedTuple):
    """All images of a data set.

    folder:  what the files are relative to.
    rows:    one an image.
    sources: the files that say so.
    """

    folder: Path
    rows: list[Row]
    sources: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How the pictures of a data set get into memory.

    short_side:   pixels that the short side is resized to when a picture is read; None leaves it.
    cache:        keep the resized pictures in one file.
    cache_folder: where.
    """

    short_side: int | None
    cache: bool
    cache_folder: str

    def store(self, name: str, folder: Path, files: Sequence[str]) -> ImageStore:
        images = ImageFiles(folder, tuple(files), self.short_side)
        return cached(images, self.cache_folder, name) if self.cache else images


def train_test(name: str, annotations: Annotations, loading: Loading) -> TrainTest:
    """The images as records, classes in the order of their sorted names.

    Raises:
        ValueError: a class has images in both halves, or one of the halves is empty.
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
    )
    has_roles = any(row.role for row in rows)
    train, test = (
        everything.select_classes([label for label in names if label in halves[half]])
        for half in ("train", "test")
    )
    return TrainTest(replace(train, is_query=None), test if has_roles else replace(test, is_query=None))


def _classes_by_half(rows: Sequence[Row]) -> dict[str, set[str]]:
    halves = {half: {row.label for row in rows if row.split == half} for half in ("train", "test")}
    if both := sorted(halves["train"] & halves["test"]):
        raise ValueError(
            f"{len(both)} classes have images in train and in test, {first_few(both)}: what is learned is measured on "
            "classes never seen, so give all images of a class to one of the two, or leave the split out"
        )
    if not (halves["train"] and halves["test"]):
        side = "train" if halves["train"] else "test"
        raise ValueError(
            f"all {len(halves[side])} classes are in {side}: give some to the other half. Without a split of your own the hash of its name decides for each class, and of a few "
            "all may fall on one side: add classes, or say which of them train and which test"
        )
    return halves


def find_folder(root: str | Path, dataset: str, anchors: Sequence[str]) -> tuple[Path, str]:
    """The folder at or up to two levels below root that holds one of the annotation files, and which one it is.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are several.
    """
    root = Path(root)
    files: dict[Path, tuple[Path, str]] = {}
    for anchor in anchors:
        for path in (path for depth in ("", "*/", "*/*/") for path in root.glob(depth + anchor)):
            files.setdefault(path, (path.parents[anchor.count("/")], anchor))
    found = dict(reversed(files.values()))  # where a folder has two of them, the first counts
    if not found:
        state = "" if root.is_dir() else " (which is no folder)"
        raise FileNotFoundError(
            f"dataset={dataset} finds no {' or '.join(anchors)} at {root}{state} or up to two folders below: "
            "give the place by paths.data=DIR, the variable DML_DATA or dataset.root=DIR; "
            f"`python scripts/prepare_data.py dataset={dataset}` says which files to get and unpacks them"
        )
    if len(found) > 1:
        raise ValueError(
            f"dataset={dataset} is at {root} more than once: {', '.join(map(str, sorted(found)))}; "
            "choose one by dataset.root=DIR"
        )
    return next(iter(found.items()))


def read_lines(path: Path, columns: Mapping[str, str], *, skip: int = 0) -> Iterator[tuple[str, ...]]:
    """The fields of every line of an annotation file, separated by blanks.

    Args:
        columns: name and regular expression of each; NUMBER, WORD and IMAGE are those that occur.
        skip: header lines.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line does not have these fields, or its image lies outside of the data set.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it came with the data set; unpack the archive again")
    pattern = re.compile(r"\s+".join(f"({field})" for field in columns.values()), re.IGNORECASE)
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines[skip:], skip + 1):
        if not line.strip():
            continue
        match = pattern.fullmatch(line.strip())
        if match is None:
            raise ValueError(
                f"{path}, line {number} is {line!r}; expected {len(columns)} fields: {' '.join(columns)}. It was cut "
                "off, or has too many fields: restore the file from the archive"
            )
        for column, field in zip(columns, match.groups(), strict=True):
            if columns[column] == IMAGE:
                refuse_outside(field, f"{path}, line {number}")
        yield match.groups()


def refuse_outside(file: str, place: str) -> None:
    """Raise ValueError for an image that does not lie inside the folder of its data set."""
    path = PurePosixPath(file.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise ValueError(
            f"{place} names {file!r}, which lies outside of the data set: restore the file from the archive"
        )


def refuse_repeated(names: Sequence[str], place: str) -> None:
    """Raise ValueError for a name that comes more than once."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(
            f"{place} names {len(repeated)} more than once, {first_few(repeated)}: each image has one line; "
            "remove the others"
        )


def check_files(annotations: Annotations) -> None:
    """Raise FileNotFoundError if images are missing, with their number and the first few."""
    present = images_below(annotations.folder, _tops(annotations.rows))
    if missing := sorted({row.file for row in annotations.rows} - present):
        raise FileNotFoundError(
            f"{len(missing):,} of {len(annotations.rows):,} images are missing below {annotations.folder}, "
            f"{first_few(missing)}: the archive was unpacked in part, or files were moved or deleted; unpack it again, "
            "which leaves what is there and adds the rest"
        )


def check_counts(
    name: str, annotations: Annotations, expected: Mapping[str, Mapping[str, int]], *, look: bool = True
) -> None:
    """Compare the numbers of classes and images, and of queries and gallery images, with the published ones.

    Args:
        expected: half -> {"classes": ..., "images": ...}, and "query" and "gallery" where there are roles.

    Raises:
        ValueError: a number differs; it says by how much, and names images on the disk that no line mentions.
    """
    differences = []
    for half, numbers in expected.items():
        counted = _counts([row for row in annotations.rows if row.split == half])
        differences += [
            f"{half} has {counted.get(what, 0):,} {what}, published are {number:,}"
            for what, number in numbers.items()
            if counted.get(what, 0) != number
        ]
    if differences:
        named = {row.file for row in annotations.rows}
        left = sorted(images_below(annotations.folder, _tops(annotations.rows)) - named)
        unnamed = f"; no line names {len(left):,} images that are there, {first_few(left)}" if left else ""
        raise ValueError(
            f"dataset={name} in {annotations.folder}: {'; '.join(differences)}{unnamed}. "
            f"Restore {', '.join(source.name for source in annotations.sources)} from the archive, or, if this is "
            "another version of the data set on purpose, give its numbers by dataset.train and dataset.test"
        )


def images_below(folder: Path, tops: Iterable[str] = (".",)) -> set[str]:
    """Pictures by their suffix below some folders of a folder, as paths relative to it; hidden ones are left out."""
    found: set[str] = set()
    for top in tops:
        for place, folders, files in os.walk(folder / top, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(place).relative_to(folder).as_posix()
            prefix = "" if below == "." else below + "/"
            found.update(
                prefix + file
                for file in files
                if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES and not file.startswith(".")
            )
    return found


def first_few(names: Sequence[str]) -> str:
    """The beginning of a list, for a message."""
    few = ", ".join(repr(name) for name in names[:3])
    return f"the first are {few}" if len(names) > 1 else f"namely {few}"


def _tops(rows: Iterable[Row]) -> set[str]:
    return {row.file.split("/")[0] for row in rows}


def _counts(rows: Sequence[Row]) -> Counter[str]:
    roles = Counter(row.role for row in rows if row.role)
    return Counter({"classes": len({row.label for row in rows}), "images": len(rows), **roles})
