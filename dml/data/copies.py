"""Images that are byte for byte the same as others, which a search would find too easily."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path

from dml.data.annotations import Row, first_few
from dml.data.encoded_images import Encoded
from dml.errors import user_files

__all__ = ["equal_files", "warn_of_copies", "warn_of_encoded_copies"]

SAMPLE = 4096  # bytes at both ends of a file that are compared before all of it is


def warn_of_copies(folder: Path, rows: Sequence[Row]) -> None:
    """Warn of images with the same content, and say how many groups of them reach over classes or halves.

    Raises:
        FileError: a file cannot be read.
    """
    with user_files(f"comparing the images of {folder}"):
        found = equal_files([folder / row.file for row in rows])
    _warn(str(folder), rows, found)


def warn_of_encoded_copies(place: str, rows: Sequence[Row], encoded: Encoded) -> None:
    """The same for images inside of larger files, one a row.

    Raises:
        FileError: an image cannot be read.
    """

    def content(row: int) -> bytes:
        return hashlib.sha256(encoded.read(row)).digest()

    _warn(place, rows, _equal(len(rows), [encoded.sample, content]))


def _warn(place: str, rows: Sequence[Row], found: Sequence[Sequence[int]]) -> None:
    groups = [[rows[i] for i in group] for group in found]
    if not groups:
        return
    halves = [group for group in groups if len({row.split for row in group}) > 1]
    classes = [group for group in groups if len({row.label for row in group}) > 1]
    named = [" = ".join(row.file for row in group[:3]) for group in halves or classes or groups]
    warnings.warn(
        f"{sum(len(group) - 1 for group in groups):,} images of {place} are copies of others, byte for byte; "
        f"{len(halves):,} of {len(groups):,} groups of copies lie in train and in test, {len(classes):,} in several "
        f"classes, {first_few(named, show=str)}: a copy is found without any learning, so keep one of each",
        stacklevel=4,
    )


def equal_files(paths: Sequence[Path]) -> list[list[int]]:
    """The positions of files with equal content, a list for each content that comes more than once.

    All of a file is read only if another one has its size and the same bytes at both ends.
    """
    looks = (_size, _ends, _content)
    return _equal(len(paths), [partial(_look, look, paths) for look in looks])


def _look(look: Callable[[Path], Hashable], paths: Sequence[Path], number: int) -> Hashable:
    return look(paths[number])


def _equal(count: int, keys: Sequence[Callable[[int], Hashable]]) -> list[list[int]]:
    """Groups of numbers for which all keys are equal; a key is asked for only where those before it are."""
    groups = [list(range(count))]
    for key in keys:
        groups = [part for group in groups for part in _split(group, key)]
    return groups


def _split(group: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    parts: dict[Hashable, list[int]] = defaultdict(list)
    for number in group:
        parts[key(number)].append(number)
    return [part for part in parts.values() if len(part) > 1]


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _ends(path: Path) -> bytes:
    with open(path, "rb") as file:
        start = file.read(SAMPLE)
        file.seek(max(0, os.fstat(file.fileno()).st_size - SAMPLE))
        return hashlib.sha256(start + file.read(SAMPLE)).digest()


def _content(path: Path) -> bytes:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.digest()
