"""The image files that somebody names: in folders, one by one, or in the tables of paths that shops export."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dml.data.discovery import describe, look_for_images, why_unreadable
from dml.data.formats import HEIF
from dml.errors import InputError, MissingFileError, user_files

__all__ = ["NEEDS_HEIF", "Listed", "Sources", "list_sources"]

NEEDS_HEIF = "HEIC, which nothing here reads: pip install pillow-heif, or convert it"


@dataclass(frozen=True)
class Listed:
    """An image that was found: its absolute path, its label and further columns if a table has them.

    size, mtime_ns: of the file now.
    """

    path: str
    size: int
    mtime_ns: int
    label: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    tabled: bool = False


@dataclass
class Sources:
    """What was found.

    files:      by path, sorted.
    unreadable: path -> why.
    left_out:   in a line each, what else lies in the folders.
    """

    files: dict[str, Listed] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def list_sources(named: Iterable[str | os.PathLike[str]]) -> Sources:
    """All images of folders, files and tables (``.csv`` with a column ``path``).

    Raises:
        MissingFileError: one of them is not there.
        InputError: there is no image in any, or a table is none.
    """
    sources, places = Sources(), [Path(os.path.abspath(name)) for name in named]
    for place in places:
        if not place.exists():
            raise MissingFileError(
                f"{place} is not there: give folders, image files or tables with the column path"
            )
        if place.is_dir():
            _list_folder(place, sources)
        elif place.suffix.lower() == ".csv":
            _list_table(place, sources)
        else:
            _list_file(place, sources)
    if not sources.files and not sources.unreadable:
        held = "; ".join(sources.left_out) or "nothing"
        raise InputError(
            f"no images in {', '.join(map(str, places))}, which hold {held}: give a folder with images"
        )
    sources.files = dict(sorted(sources.files.items()))
    return sources


def _list_folder(folder: Path, sources: Sources) -> None:
    found = look_for_images(folder)
    for name in found.left_out.pop(HEIF, ()):
        sources.unreadable[str(folder / name)] = NEEDS_HEIF
    for name, reason in found.unreadable.items():
        sources.unreadable[str(folder / name)] = reason
    if found.left_out:
        sources.left_out.append(f"{folder}: {describe(found.left_out)}")
    for name in found.files:
        _list_file(folder / name, sources)


def _list_file(
    path: Path, sources: Sources, label: str | None = None, columns: Mapping[str, str] | None = None
) -> None:
    try:
        reason = why_unreadable(path)
        status = os.stat(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    if reason:
        sources.unreadable[str(path)] = reason
        return
    known = sources.files.get(str(path))
    if columns is None and known is not None:  # a table has said more of it
        return
    sources.files[str(path)] = Listed(
        str(path), status.st_size, status.st_mtime_ns, label, columns or {}, tabled=columns is not None
    )


def _list_table(table: Path, sources: Sources) -> None:
    for line in _read(table):
        path = os.path.normpath(table.parent / line["path"])
        others = {name: value for name, value in line.items() if name not in ("path", "label")}
        _list_file(Path(path), sources, line.get("label") or None, others)


def _read(table: Path) -> Sequence[dict[str, str]]:
    try:
        with user_files(f"reading {table}"), table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if "path" not in (columns := list(reader.fieldnames or ())):
                raise InputError(
                    f"{table} has no column path; its first line names {', '.join(columns) or 'nothing'}. It needs "
                    "path, separated by commas, and may have label and others"
                )
            lines = []
            for line in reader:
                if None in line or None in line.values() or not line["path"].strip():
                    raise InputError(
                        f"{table}, line {reader.line_num} has an empty path, or not as many fields as there are "
                        "columns: put a field that holds a comma into double quotes"
                    )
                lines.append({str(name): value.strip() for name, value in line.items()})
            return lines
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{table} is no table of comma-separated values in UTF-8: {error}; save it as one"
        ) from error
