"""Pictures in the tables of the `datasets` library, which stay on the disk until they are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dml.data.hub_sets import import_datasets
from dml.data.shard_index import sample
from dml.errors import FileError

__all__ = ["HubImages"]


class HubImages:
    """Encoded pictures by row, the tables one after another.

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

    def read(self, row: int, /) -> bytes:
        """The file of the picture; raises OSError if the table has none, or names one that is not there."""
        table, place = self._place(row)
        value = self._tables[table][place][self._column]
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is not None:
            return bytes(content)
        if isinstance(value, dict) and value.get("path"):
            return Path(value["path"]).read_bytes()
        raise FileError(f"{self.name(row)} has no image: remove the row")

    @cached_property
    def identity(self) -> bytes:
        """A hash of the files of the tables, by size, time and a sample, and of pictures that lie beside them."""
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
    """The table with its pictures as bytes: this package decodes them, so they are those of every other reader."""
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
