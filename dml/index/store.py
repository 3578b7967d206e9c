"""The vectors of an index and what is known of each: read by many, written by one."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dml.errors import FileError, InputError, user_files
from dml.index.layout import FORMAT, IndexFolder, IndexInfo, read_info, settle

__all__ = ["BLOCK_BYTES", "Item", "Store", "connect", "database_errors"]

HEADER = 128  # bytes before the vectors in vectors.npy, whatever their number
BLOCK_BYTES = 2**26  # of vectors that are in memory at a time
AT_ONCE = 500  # values in one question to the database, and rows of an answer
COLUMNS = "id, row, path, size, mtime_ns, sha256, width, height, label, columns, crc"
SCHEMA = f"""
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    row INTEGER NOT NULL UNIQUE,        -- in vectors.npy; in the order of id
    path NOT NULL,                      -- absolute; bytes where the name is no UTF-8
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    label TEXT,
    columns TEXT NOT NULL DEFAULT '{{}}',  -- further columns of a table, as JSON
    crc INTEGER NOT NULL,               -- CRC-32 of the row in vectors.npy
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX items_by_path ON items (path) WHERE NOT deleted;
CREATE INDEX items_by_content ON items (sha256);
CREATE INDEX items_deleted ON items (row) WHERE deleted;
CREATE TABLE not_duplicates (a TEXT NOT NULL, b TEXT NOT NULL, PRIMARY KEY (a, b));  -- SHA-256, a < b
CREATE TABLE removed (path PRIMARY KEY) WITHOUT ROWID;  -- by somebody, and not taken in again by a build
PRAGMA user_version = {FORMAT};
"""


@dataclass(frozen=True)
class Item:
    """What is known of an image of an index.

    id:       stays with the image; rises with the order in which images came.
    row:      of its vector.
    path:     absolute.
    size, mtime_ns, sha256: of the file, as it was embedded.
    width, height: in pixels, upright.
    label:    None where there is none.
    columns:  further columns of the table that it came from.
    """

    id: int
    row: int
    path: str
    size: int
    mtime_ns: int
    sha256: str
    width: int
    height: int
    label: str | None
    columns: Mapping[str, str]
    crc: int


class Store:
    """An index as it was when it was opened. What another process adds later is seen by opening it again.

    Raises:
        MissingFileError: the folder is no index.
        InputError: it is damaged, or of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = IndexFolder(Path(path))
        while True:
            settle(self.folder)
            self.info = read_info(self.folder)
            self.database = connect(self.folder)
            self.rows = self._count_rows()
            self._vectors = self._open_vectors()
            again = read_info(self.folder).generation
            if again == self.info.generation and not self.folder.complete.exists():
                break
            self.close()
        with database_errors(self.folder):
            deleted = self.database.execute("SELECT row FROM items WHERE deleted ORDER BY row").fetchall()
        self.deleted: NDArray[np.int64] = np.array(deleted, np.int64).reshape(-1)

    def __len__(self) -> int:
        """The number of items, without those that were removed."""
        return self.rows - len(self.deleted)

    def close(self) -> None:
        self.database.close()
        os.close(self._vectors)

    def blocks(
        self, cells: int | None = None, *, first: int = 0
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All rows from one on in order, some at a time, removed ones too: (first row, (n, D) float32).

        The file is mapped into memory a block at a time, so that no more than a block counts as this process's.
        """
        width = self.info.dimension * 4
        at_a_time = max(1, BLOCK_BYTES // width if cells is None else cells)
        for start in range(first, self.rows, at_a_time):
            yield start, self._map(start, min(at_a_time, self.rows - start)).astype(np.float32, copy=False)

    def vectors_of(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, (n, D)."""
        if not self.rows:
            return np.empty((0, self.info.dimension), np.float32)
        whole = self._map(0, self.rows)
        return np.asarray(whole[np.asarray(rows, np.int64)], np.float32)

    def items(self) -> Iterator[Item]:
        """All items that were not removed, by their number."""
        question = f"SELECT {COLUMNS} FROM items WHERE NOT deleted AND id > ? ORDER BY id LIMIT {AT_ONCE}"
        last = -1
        while True:  # a question that stays open would keep a writer waiting
            with database_errors(self.folder):
                found = self.database.execute(question, (last,)).fetchall()
            yield from map(_item, found)
            if len(found) < AT_ONCE:
                return
            last = found[-1][0]

    def items_of(self, rows: Iterable[int]) -> dict[int, Item]:
        """The items of some rows, by row."""
        return {item.row: item for item in self._where("row", [int(row) for row in rows])}

    def item(self, number: int) -> Item | None:
        """The item of a number; None if there is none, or it was removed."""
        return next(self._where("id", [number]), None)

    def rows_without(self, label: str) -> NDArray[np.int64]:
        """Rows of removed items and of those that have another label or none, rising."""
        with database_errors(self.folder):
            question = "SELECT row FROM items WHERE NOT deleted AND label = ?"
            found = self.database.execute(question, (label,)).fetchall()
        others = np.ones(self.rows, bool)
        others[np.array(found, np.int64).reshape(-1)] = False
        return np.flatnonzero(others)

    def labels(self, most: int) -> dict[str, int]:
        """How many items have each label: the most frequent ones, and among equals by name."""
        question = (
            "SELECT label, count(*) FROM items WHERE NOT deleted AND label IS NOT NULL GROUP BY label "
            "ORDER BY count(*) DESC, label LIMIT ?"
        )
        with database_errors(self.folder):
            return dict(self.database.execute(question, (most,)))

    def not_duplicates(self) -> set[tuple[str, str]]:
        """Pairs of contents, by SHA-256 in rising order, of which somebody said that they are no duplicates."""
        with database_errors(self.folder):
            return set(self.database.execute("SELECT a, b FROM not_duplicates"))

    def removed(self) -> set[str]:
        """Paths that somebody removed, which a build leaves out."""
        with database_errors(self.folder):
            return {os.fsdecode(path) for (path,) in self.database.execute("SELECT path FROM removed")}

    def _where(self, column: str, values: Sequence[Any]) -> Iterator[Item]:
        for start in range(0, len(values), AT_ONCE):
            part = values[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            question = f"SELECT {COLUMNS} FROM items WHERE NOT deleted AND {column} IN ({marks}) ORDER BY id"
            with database_errors(self.folder):
                found = self.database.execute(question, part).fetchall()
            yield from map(_item, found)

    def _count_rows(self) -> int:
        with database_errors(self.folder):
            count, last = self.database.execute(
                "SELECT count(*), coalesce(max(row), -1) FROM items"
            ).fetchone()
        if count != last + 1:
            raise InputError(
                f"{self.folder.items} is damaged: {count} items, and the last one is at row {last}: restore it from a "
                "backup, or build the index anew in another folder"
            )
        return int(count)

    def _open_vectors(self) -> int:
        with user_files(f"opening {self.folder.vectors}"):
            vectors = os.open(self.folder.vectors, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            size = os.fstat(vectors).st_size
        width = self.info.dimension * self.info.numpy_dtype.itemsize
        if size < HEADER + self.rows * width:
            os.close(vectors)
            raise InputError(
                f"{self.folder.vectors} is damaged: it has {size:,} bytes, and {self.rows:,} items need "
                f"{HEADER + self.rows * width:,}: restore it from a backup, or build the index anew in another folder"
            )
        return vectors

    def _map(self, start: int, count: int) -> NDArray[Any]:
        """Some rows as they lie on the disk; c: torch wants them writable, and writing stays in memory."""
        dtype = self.info.numpy_dtype
        with os.fdopen(os.dup(self._vectors), "rb") as file:
            return np.memmap(
                file,
                dtype,
                "c",
                HEADER + start * self.info.dimension * dtype.itemsize,
                (count, self.info.dimension),
            )


def connect(folder: IndexFolder) -> sqlite3.Connection:
    """The database of an index, which is there.

    Raises:
        InputError: it is no database, or of a newer version.
        FileError: it cannot be opened.
    """
    if not folder.items.is_file():
        raise InputError(
            f"{folder} is damaged, it has no items.sqlite: restore it from a backup, or build the index anew in "
            "another folder"
        )
    with database_errors(folder):
        database = sqlite3.connect(folder.items, timeout=30, check_same_thread=False)
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            database.close()
            raise InputError(f"{folder.items} is of format {version}, and {FORMAT} is read here: update dml")
        database.execute("PRAGMA synchronous = FULL")
    return database


@contextlib.contextmanager
def database_errors(folder: IndexFolder) -> Iterator[None]:
    """Turn what SQLite says into a user's error.

    Raises:
        FileError: the disk is full, the file cannot be written, or another process holds it.
        InputError: it is damaged.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise FileError(
            f"{folder.items}: {error}; what was committed before is kept: mend that and start again"
        ) from error
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"{folder.items} is damaged ({error}): restore it from a backup, or build the index anew in another folder"
        ) from error


def encode_path(path: str) -> str | bytes:
    """A path for the database, as text if it is UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _item(found: tuple[Any, ...]) -> Item:
    item, path, columns = Item(*found), found[2], found[9]
    return replace(item, path=os.fsdecode(path), columns=json.loads(columns))


def header(rows: int, info: IndexInfo) -> bytes:
    """The beginning of a .npy file of so many vectors, HEADER bytes long."""
    text = f"{{'descr': {info.numpy_dtype.str!r}, 'fortran_order': False, 'shape': ({rows}, {info.dimension}), }}"
    start = np.lib.format.magic(1, 0) + (HEADER - 10).to_bytes(2, "little")
    return start + text.encode().ljust(HEADER - 11) + b"\n"
