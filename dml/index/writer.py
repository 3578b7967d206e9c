"""The one process that changes an index."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dml.errors import InputError, OccupiedError, user_files
from dml.index.fingerprint import GOLDEN_TOLERANCE, draw_golden_images, fingerprint_of, golden_difference
from dml.index.layout import FORMAT, IndexFolder, IndexInfo, write_info, write_whole
from dml.index.store import HEADER, SCHEMA, Item, Store, database_errors, encode_path, header
from dml.locks import lock_folder, unlock_folder
from dml.model import EmbeddingModel
from dml.shared_models import lasting_name

__all__ = ["NewItem", "Writer", "alone", "check_model", "create_index", "open_writer"]

FILES = (
    "approximate.faiss",
    "approximate.faiss.partial",
    "index.json",
    "index.json.partial",
    "items.sqlite",
    "items.sqlite-journal",
    "vectors.npy",
    "vectors.npy.partial",
)


class NewItem(NamedTuple):
    """An image that is to be added; see Item."""

    path: str
    size: int
    mtime_ns: int
    sha256: str
    width: int
    height: int
    label: str | None
    columns: Mapping[str, str]


def create_index(
    folder: IndexFolder, model: EmbeddingModel, *, run: str, checkpoint: str, dtype: str
) -> None:
    """Make an empty index for the vectors of a model; index.json comes last, and says that it is one.

    Raises:
        OccupiedError: the folder holds something else.
        InputError: a type that vectors are not stored in.
        FileError: the folder cannot be written.
    """
    if dtype not in ("float32", "float16"):
        raise InputError(f"dtype={dtype}: vectors are stored as float32 or float16")
    info = IndexInfo(
        fingerprint=fingerprint_of(model),
        run=lasting_name(run),
        checkpoint=checkpoint,
        dimension=model.projection.out_features,
        dtype=dtype,
        generation=uuid.uuid4().hex,
    )
    with user_files(f"making the index {folder}"):
        _clear(folder)
        golden = draw_golden_images()
        folder.golden.mkdir(parents=True)
        for number, content in enumerate(golden):
            (folder.golden / f"{number}.image").write_bytes(content)
        np.save(folder.golden / "vectors.npy", model.embed(golden).numpy())
        write_whole(folder.vectors, header(0, info))
        with database_errors(folder):
            database = sqlite3.connect(folder.items)
            database.executescript(SCHEMA)
            database.close()
        write_info(folder, info)


def _clear(folder: IndexFolder) -> None:
    """Remove a half-made index, and refuse a folder that holds anything else."""
    folder.path.mkdir(parents=True, exist_ok=True)
    if foreign := sorted(set(os.listdir(folder.path)) - {*FILES, "golden", ".lock"}):
        raise OccupiedError(
            f"{folder} holds something that is no index, such as {foreign[0]!r}: give a new or an empty folder"
        )
    for name in FILES:
        (folder.path / name).unlink(missing_ok=True)
    shutil.rmtree(folder.golden, ignore_errors=True)


def check_model(store: Store, model: EmbeddingModel) -> None:
    """Refuse a model other than the one that made the vectors of an index.

    Raises:
        InputError: other weights, preprocessing or dimension, or vectors of the golden images that moved.
    """
    info, own = store.info, fingerprint_of(model)
    way_on = f"give the run that made it, or embed its images with this one by `dml index upgrade {store.folder} RUN`"
    if own != info.fingerprint:
        raise InputError(
            f"{store.folder} holds vectors of the model {info.model}, and this is the model {own[:12]}: they cannot be "
            f"compared; {way_on}"
        )
    golden = store.folder.golden
    with user_files(f"reading {golden}"):
        vectors = np.load(golden / "vectors.npy")
        images = [(golden / f"{number}.image").read_bytes() for number in range(len(vectors))]
    difference = golden_difference(model, images, vectors)
    if difference > GOLDEN_TOLERANCE:
        raise InputError(
            f"{store.folder} and this model {own[:12]} have the same weights, but vectors of the golden images differ "
            f"by {difference:.2g}, and {GOLDEN_TOLERANCE:g} is accepted: a setting of the model or a library that "
            f"decodes or resizes is another one here; {way_on}"
        )


@contextmanager
def alone(folder: IndexFolder) -> Iterator[None]:
    """Keep other writers out of a folder, which is made if need be.

    Raises:
        OccupiedError: another process is changing it.
        FileError: it cannot be written.
    """
    with user_files(f"writing to {folder}"):
        folder.path.mkdir(parents=True, exist_ok=True)
        if not lock_folder(folder.path):
            raise OccupiedError(
                f"{folder} is being changed by another process: wait for it to end; searching is possible meanwhile"
            )
    try:
        yield
    finally:
        unlock_folder(folder.path)


@contextmanager
def open_writer(folder: IndexFolder) -> Iterator[Writer]:
    """Open an index for changes, inside of `alone`; errors as of Store."""
    writer = Writer(folder.path)
    try:
        yield writer
    finally:
        writer.close()


class Writer(Store):
    """An index that this process alone changes.

    Vectors are appended and flushed to the disk before the transaction that makes them count, and what stands behind
    the last row that counts was left by a process that was killed: it is cut off.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with user_files(f"writing to {self.folder.vectors}"):
            self._file = self.folder.vectors.open("r+b", buffering=0)
            self._cut()

    def close(self) -> None:
        self._file.close()
        super().close()

    def known(self) -> dict[str, Item]:
        """All items by their path."""
        return {item.path: item for item in self.items()}

    def add(
        self, items: Sequence[NewItem], vectors: NDArray[np.floating[Any]], *, instead: Iterable[int] = ()
    ) -> None:
        """Append items, all of them or, if something fails, none.

        Args:
            vectors: (n, D) unit vectors.
            instead: numbers of items that go with the same stroke, as their files changed.

        Raises:
            InputError: vectors with a NaN or an infinity, of a model that diverged.
            FileError: the disk is full, or whatever else the system says; nothing is lost.
        """
        if not np.isfinite(vectors).all():
            raise InputError(
                "the model gives vectors with NaN or infinity: it diverged in training; use another run"
            )
        stored = np.ascontiguousarray(vectors, self.info.numpy_dtype)
        with user_files(f"writing to {self.folder.vectors}"):
            try:
                self._write(self._end(self.rows), stored.tobytes())
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(self._end(self.rows))
                raise
        values = [
            (
                self.rows + i,
                encode_path(item.path),
                *item[1:-1],
                json.dumps(item.columns),
                zlib.crc32(stored[i].tobytes()),
            )
            for i, item in enumerate(items)
        ]
        with database_errors(self.folder), self.database:
            self._delete(instead)
            self.database.executemany(
                "INSERT INTO items (row, path, size, mtime_ns, sha256, width, height, label, columns, crc) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        self.rows += len(items)

    def remove(self, ids: Iterable[int], *, leave_out: Iterable[str] = ()) -> int:
        """Remove items by their number, and leave out some paths from now on; the number of those that were there."""
        with database_errors(self.folder), self.database:
            paths = [(encode_path(path),) for path in leave_out]
            self.database.executemany("INSERT OR IGNORE INTO removed VALUES (?)", paths)
            return self._delete(ids)

    def take_back(self, paths: Iterable[str]) -> None:
        """Leave out some paths no longer."""
        with database_errors(self.folder), self.database:
            values = [(encode_path(path),) for path in paths]
            self.database.executemany("DELETE FROM removed WHERE path = ?", values)

    def change(self, item: Item, **values: Any) -> Item:
        """Note what changed of an item beside its content: path, size, mtime_ns, label, columns."""
        new = replace(item, **values)
        row = (
            encode_path(new.path), new.size, new.mtime_ns, new.label, json.dumps(new.columns), new.id,
        )  # fmt: skip
        with database_errors(self.folder), self.database:
            self.database.execute(
                "UPDATE items SET path = ?, size = ?, mtime_ns = ?, label = ?, columns = ? WHERE id = ?", row
            )
        return new

    def keep_apart(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Remember pairs of contents, by SHA-256, that are no duplicates."""
        ordered = [tuple(sorted(pair)) for pair in pairs]
        with database_errors(self.folder), self.database:
            self.database.executemany("INSERT OR IGNORE INTO not_duplicates VALUES (?, ?)", ordered)

    def items_with(self, column: str, values: Sequence[Any]) -> list[Item]:
        """The items with some values of path or sha256."""
        return list(self._where(column, [encode_path(v) for v in values] if column == "path" else values))

    def finish(self, **changed: Any) -> IndexInfo:
        """Write index.json and the number of vectors in the head of vectors.npy, as they are now."""
        with database_errors(self.folder):
            removed = self.database.execute("SELECT count(*) FROM items WHERE deleted").fetchone()[0]
        self.info = replace(self.info, items=self.rows - removed, removed=removed, format=FORMAT, **changed)
        with user_files(f"writing to {self.folder}"):
            self._write(0, header(self.rows, self.info))
            write_info(self.folder, self.info)
        return self.info

    def _delete(self, ids: Iterable[int]) -> int:
        asked = [(number,) for number in ids]
        return self.database.executemany(
            "UPDATE items SET deleted = 1 WHERE id = ? AND NOT deleted", asked
        ).rowcount

    def _end(self, rows: int) -> int:
        return HEADER + rows * self.info.dimension * self.info.numpy_dtype.itemsize

    def _cut(self) -> None:
        self._file.truncate(self._end(self.rows))
        self._write(0, header(self.rows, self.info))

    def _write(self, place: int, content: bytes) -> None:
        self._file.seek(place)
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) :]
