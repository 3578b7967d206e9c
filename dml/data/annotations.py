"""What the annotations of a data set say of its images, checked before anything is trained on it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dml.errors import InputError, MissingFileError

__all__ = [
    "IMAGE",
    "IMAGE_SUFFIXES",
    "NUMBER",
    "WORD",
    "Annotations",
    "Row",
    "check_files",
    "check_published",
    "find_folder",
    "first_few",
    "images_below",
    "read_lines",
    "refuse_outside",
    "refuse_repeated",
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
    levels:  see Records.
    """

    folder: Path
    rows: list[Row]
    sources: tuple[Path, ...]
    levels: Mapping[str, Mapping[str, str]] = {}


def find_folder(root: str | Path, dataset: str, anchors: Sequence[str]) -> tuple[Path, str]:
    """The folder at or up to two levels below root that holds one of the annotation files, and which one it is.

    Raises:
        MissingFileError: there is no such folder.
        InputError: there are several.
    """
    root = Path(root)
    files: dict[Path, tuple[Path, str]] = {}
    for anchor in anchors:
        for path in (path for depth in ("", "*/", "*/*/") for path in root.glob(depth + anchor)):
            files.setdefault(path, (path.parents[anchor.count("/")], anchor))
    found = dict(reversed(files.values()))  # where a folder has two of them, the first counts
    if not found:
        state = "" if root.is_dir() else " (which is no folder)"
        raise MissingFileError(
            f"dataset={dataset} finds no {' or '.join(anchors)} at {root}{state} or up to two folders below: "
            "give the place by paths.data=DIR, the variable DML_DATA or dataset.root=DIR; "
            f"`dml prepare {dataset}` says which files to get and unpacks them"
        )
    if len(found) > 1:
        raise InputError(
            f"dataset={dataset} is at {root} more than once: {', '.join(map(str, sorted(found)))}; "
            "choose one by dataset.root=DIR"
        )
    return next(iter(found.items()))


def read_lines(
    path: Path, columns: Mapping[str, str], *, skip: int = 0, separator: str = r"\s+"
) -> Iterator[tuple[str, ...]]:
    """The fields of every line of an annotation file.

    Args:
        columns: name and regular expression of each; NUMBER, WORD and IMAGE are those that occur most.
        skip: header lines.
        separator: regular expression of what stands between two fields; blanks if not given.

    Raises:
        MissingFileError: there is no such file.
        InputError: a line does not have these fields, or its image lies outside of the data set.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: it came with the data set; unpack the archive again")
    pattern = re.compile(separator.join(f"({field})" for field in columns.values()), re.IGNORECASE)
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines[skip:], skip + 1):
        if not line.strip():
            continue
        match = pattern.fullmatch(line.strip())
        if match is None:
            raise InputError(
                f"{path}, line {number} is {line!r}; expected {len(columns)} fields: {' '.join(columns)}. It was cut "
                "off, or has too many fields: restore the file from the archive"
            )
        for column, field in zip(columns, match.groups(), strict=True):
            if columns[column] == IMAGE:
                refuse_outside(field, f"{path}, line {number}")
        yield match.groups()


def refuse_outside(file: str, place: str) -> None:
    """Raise InputError for an image that does not lie inside the folder of its data set."""
    path = PurePosixPath(file.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise InputError(
            f"{place} names {file!r}, which lies outside of the data set: restore the file from the archive"
        )


def refuse_repeated(names: Sequence[str], place: str) -> None:
    """Raise InputError for a name that comes more than once."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(
            f"{place} names {len(repeated)} more than once, {first_few(repeated)}: each image has one line; "
            "remove the others"
        )


def check_files(annotations: Annotations) -> None:
    """Raise MissingFileError if images are missing, with their number and the first few."""
    present = images_below(annotations.folder, _tops(annotations.rows))
    unseen = sorted({row.file for row in annotations.rows} - present)
    if missing := [file for file in unseen if not (annotations.folder / file).is_file()]:
        raise MissingFileError(
            f"{len(missing):,} of {len(annotations.rows):,} images are missing below {annotations.folder}, "
            f"{first_few(missing)}: the archive was unpacked in part, or files were moved or deleted; unpack it again, "
            "which leaves what is there and adds the rest"
        )


def check_published(
    name: str, annotations: Annotations, expected: Mapping[str, Mapping[str, int]], *, look: bool = True
) -> None:
    """Compare the numbers of classes and images, and of queries and gallery images, with the published ones.

    Args:
        expected: half -> {"classes": ..., "images": ...}, and "query" and "gallery" where there are roles.

    Raises:
        InputError: a number differs; it says by how much, and names images on the disk that no line mentions.
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
        raise InputError(
            f"dataset={name} in {annotations.folder}: {'; '.join(differences)}{unnamed}. "
            f"Restore {', '.join(source.name for source in annotations.sources)} from the archive, or, if this is "
            "another version of the data set on purpose, give its numbers by dataset.train and dataset.test"
        )


def images_below(folder: Path, tops: Iterable[str] = (".",)) -> set[str]:
    """Images by their suffix below some folders of a folder, as paths relative to it; hidden ones are left out.

    Links are followed, and each folder is read once, by one of its names.
    """
    found: set[str] = set()
    read: set[tuple[int, int]] = set()
    for top in tops:
        for place, folders, files in os.walk(folder / top, followlinks=True):
            status = os.stat(place)
            if (key := (status.st_dev, status.st_ino)) in read and status.st_ino:
                folders.clear()
                continue
            read.add(key)
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(place).relative_to(folder).as_posix()
            prefix = "" if below == "." else below + "/"
            found.update(
                prefix + file
                for file in files
                if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES and not file.startswith(".")
            )
    return found


def first_few(names: Sequence[str], *, show: Callable[[str], str] = repr) -> str:
    """The beginning of a list, for a message."""
    few = ", ".join(show(name) for name in names[:3])
    return f"the first are {few}" if len(names) > 1 else f"namely {few}"


def _tops(rows: Iterable[Row]) -> set[str]:
    return {row.file.split("/")[0] for row in rows}


def _counts(rows: Sequence[Row]) -> Counter[str]:
    roles = Counter(row.role for row in rows if row.role)
    return Counter({"classes": len({row.label for row in rows}), "images": len(rows), **roles})
