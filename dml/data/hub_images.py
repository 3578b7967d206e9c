"""Images in the tables of the `datasets` library, which stay on the disk until they are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dml.data.hub_sets import import_datasets
from dml.data.shard_index import sample
from dml.errors import FileError

__all__ = ["HubImages"]

END = 4096  # bytes of an image that are compared before all of it is


class HubImages:
    """Encoded images by row, the tables one after another.

    A table travels to a data worker as the path of its file.
    """

    def __init__(self, tables: Mapping[str, Any], column: str) -> None:
        library = import_datasets()
        self._splits = tuple(tables)
        self._column = column
        self._tables = [
            _undecoded(table.select_columns([column]), column, library) for table in tables.values()
        ]
        self._ends = np.cumsum([len(table) for table in self._tables])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, row: int, /) -> str:
        """Its split and its row there."""
        table, place = self._place(row)
        return f"{self._splits[table]}, row {place:,}"

    def sample(self, row: int, /) -> bytes:
        """A hash of its length and both its ends; of all rows of a table at once, if the table holds them."""
        found = self._samples[row]
        if found is None:
            content = self.read(row)
            found = _hash(len(content), content[:END], content[-END:])
        return found

    def read(self, row: int, /) -> bytes:
        """The file of the image; raises FileError if the table has none, or names one that is not there."""
        table, place = self._place(row)
        value = self._tables[table][place][self._column]
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is not None:
            return bytes(content)
        if isinstance(value, dict) and value.get("path"):
            try:
                return Path(value["path"]).read_bytes()
            except OSError as error:
                raise FileError(f"{self.name(row)} cannot be read: {error}; restore the file") from error
        raise FileError(f"{self.name(row)} has no image: remove the row")

    @cached_property
    def _samples(self) -> list[bytes | None]:
        return [found for table in self._tables for found in _samples(table, self._column)]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_samples", "identity")}

    @cached_property
    def identity(self) -> bytes:
        """A hash of the files of the tables, by size, time and a sample, and of images that lie beside them."""
        digest = hashlib.sha256(json.dumps([self._column, self._ends.tolist()]).encode())
        for table in self._tables:
            for file in table.cache_files:
                path = Path(file["filename"])
                stat = path.stat()
                digest.update(json.dumps([stat.st_mtime_ns, sample(path, stat.st_size)]).encode())
            for path in _beside(table, self._column):
                stat = path.stat()
                digest.update(json.dumps([str(path), stat.st_size, stat.st_mtime_ns]).encode())
        return digest.digest()

    def _place(self, row: int) -> tuple[int, int]:
        table = int(np.searchsorted(self._ends, row, side="right"))
        return table, int(row - (self._ends[table - 1] if table else 0))


def _undecoded(table: Any, column: str, library: Any) -> Any:
    """The table with its images as bytes: this package decodes them, so they are those of every other reader."""
    is_image = isinstance(table.features[column], library.Image)
    return table.cast_column(column, library.Image(decode=False)) if is_image else table


def _beside(table: Any, column: str) -> list[Path]:
    """Files that a table names instead of holding their content."""
    return [
        Path(value["path"])
        for chunk in table.data.column(column).chunks
        if hasattr(chunk, "field") and chunk.field("bytes").null_count
        for value in ({"path": path.as_py()} for path in chunk.field("path"))
        if value["path"] and Path(value["path"]).is_file()
    ]


def _samples(table: Any, column: str) -> Iterator[bytes | None]:
    compute = import_module("pyarrow.compute")  # which the library brings
    for chunk in table.data.column(column).chunks:
        content = compute.struct_field(chunk, "bytes") if hasattr(chunk, "field") else chunk
        starts, ends = compute.binary_slice(content, 0, END), compute.binary_slice(content, -END)
        for length, start, end in zip(compute.binary_length(content), starts, ends, strict=True):
            yield _hash(length.as_py(), start.as_py(), end.as_py()) if length.is_valid else None


def _hash(length: int, start: bytes, end: bytes) -> bytes:
    return hashlib.sha256(str(length).encode() + start + end).digest()
