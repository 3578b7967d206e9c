"""Whether an index is whole, and whether the files that it was made from are still those."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field

import numpy as np

from dml.index.layout import IndexFolder
from dml.index.store import Store, database_errors

__all__ = ["Report", "check_index"]


@dataclass
class Report:
    """What was found.

    items:   that were looked at.
    damaged: what is wrong with the index itself, in a sentence each.
    missing: paths of files that are no longer there.
    changed: paths of files that have another size or time than when they were embedded.
    """

    items: int = 0
    damaged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def check_index(folder: str | os.PathLike[str]) -> Report:
    """Read all of an index and look at every file of it.

    Raises:
        MissingFileError, InputError: it is no index, or so damaged that it cannot be opened.
    """
    store = Store(folder)
    try:
        report = Report(items=len(store))
        _check_database(store, report)
        _check_vectors(store, report)
        for item in store.items():
            try:
                status = os.stat(item.path)
            except OSError:
                report.missing.append(item.path)
                continue
            if (status.st_size, status.st_mtime_ns) != (item.size, item.mtime_ns):
                report.changed.append(item.path)
    finally:
        store.close()
    return report


def _check_database(store: Store, report: Report) -> None:
    with database_errors(store.folder):
        found = [line for (line,) in store.database.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        report.damaged.append(f"{store.folder.items}: {found[0]}")
    if not _golden_is_there(store.folder):
        report.damaged.append(
            f"{store.folder.golden}: images or vectors are missing; without them no model is accepted"
        )


def _golden_is_there(folder: IndexFolder) -> bool:
    try:
        count = len(np.load(folder.golden / "vectors.npy"))
    except (OSError, ValueError):
        return False
    return all((folder.golden / f"{number}.image").is_file() for number in range(count))


def _check_vectors(store: Store, report: Report) -> None:
    """Compare each vector with the checksum that was taken when it was written."""
    for start, vectors in store.blocks():
        stored = np.ascontiguousarray(vectors, store.info.numpy_dtype)
        for row, item in store.items_of(range(start, start + len(vectors))).items():
            if zlib.crc32(stored[row - start].tobytes()) != item.crc:
                report.damaged.append(
                    f"the vector of {item.path} is another one than was written: remove the image from the index, and "
                    "add it again"
                )
