"""Files on their way into an index: only those that are new or changed are embedded, and nothing is lost on the way."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dml.data import read_ahead
from dml.data.decoding import decode_bytes
from dml.errors import UserError
from dml.index.sources import Listed
from dml.index.store import Item
from dml.index.writer import NewItem, Writer
from dml.model import EmbeddingModel
from dml.progress import progress

__all__ = ["Changes", "build_items"]

BATCH = 64
SAVE_EVERY = 2.0  # seconds of work that a kill may lose


@dataclass
class Changes:
    """What became of the images that an index was given, in numbers.

    added, changed: embedded, as they were new or their content is another one.
    copied:         new, with the content of an image that is in the index: its vector was taken.
    moved:          known by their content, and no longer where they were.
    unchanged:      left alone.
    removed:        left out, as somebody removed them.
    unreadable:     path -> why.
    left_out:       in a line each, what else lies in the folders.
    items:          in the index now.
    seconds:        for reading and embedding.
    recall:         what an approximate search finds, if it was measured.
    """

    added: int = 0
    changed: int = 0
    copied: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    items: int = 0
    seconds: float = 0.0
    recall: dict[str, Any] | None = None


class _Read(NamedTuple):
    """A file that was read. The square is what the model sees; None where the content is known or no image."""

    listed: Listed
    sha256: str = ""
    width: int = 0
    height: int = 0
    square: Tensor | None = None
    problem: str = ""


def build_items(writer: Writer, model: EmbeddingModel, files: Sequence[Listed], changes: Changes) -> None:
    """Take files into an opened index, and count in `changes` what became of each."""
    begin = time.monotonic()
    known = writer.known()
    pending = []
    for listed in files:
        item = known.get(listed.path)
        if item is None or (item.size, item.mtime_ns) != (listed.size, listed.mtime_ns):
            pending.append(listed)
            continue
        changes.unchanged += 1
        if listed.tabled and (item.label, item.columns) != (listed.label, listed.columns):
            writer.change(item, label=listed.label, columns=dict(listed.columns))
    _Intake(writer, model, known, changes).run(pending)
    changes.seconds = time.monotonic() - begin


class _Intake:
    """Files on their way into an index: read by threads, embedded in batches, committed every few seconds."""

    def __init__(
        self, writer: Writer, model: EmbeddingModel, known: dict[str, Item], changes: Changes
    ) -> None:
        self._writer, self._model, self._known, self._changes = writer, model, known, changes
        self._by_content: dict[str, list[Item]] = {}
        for item in known.values():
            self._by_content.setdefault(item.sha256, []).append(item)
        self._batch: list[_Read] = []
        self._embedded: list[tuple[_Read, NDArray[np.float32]]] = []
        self._fresh: dict[str, NDArray[np.float32]] = {}  # of _embedded, by content
        self._committed: dict[str, int] = {}  # rows by content, of this call
        self._later: list[_Read] = []  # copies of files in the batch

    def run(self, files: Sequence[Listed]) -> None:
        saved = time.monotonic()
        try:
            with progress("embedding", len(files)) as advance:
                for read in read_ahead(files, self._read, ahead=BATCH):
                    self._sort(read)
                    advance(1)
                    if len(self._batch) == BATCH:
                        self._embed()
                    if time.monotonic() - saved > SAVE_EVERY:
                        self._save()
                        saved = time.monotonic()
            self._embed()
        finally:  # also when it is interrupted
            self._save()

    def _read(self, listed: Listed) -> _Read:
        """What a thread does: a known content is not decoded."""
        try:
            content = Path(listed.path).read_bytes()
        except OSError as error:
            return _Read(listed, problem=(error.strerror or str(error)).lower())
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 in self._by_content:
            return _Read(listed, sha256)
        try:
            pixels = decode_bytes(content, listed.path).pixels
            height, width = pixels.shape[:2]
            return _Read(listed, sha256, width, height, self._model.preprocess(pixels))
        except (UserError, MemoryError) as error:
            return _Read(listed, problem=str(error) or "not enough memory")

    def _sort(self, read: _Read) -> None:
        """Take what is known by its content at once; let the rest wait for its batch."""
        if read.problem:
            self._changes.unreadable[read.listed.path] = read.problem
        elif read.square is None:
            self._take_known(read)
        elif read.sha256 in self._fresh:
            self._copy(read, self._fresh[read.sha256])
        elif read.sha256 in self._committed:
            self._copy(read, self._writer.vectors_of([self._committed[read.sha256]])[0])
        elif any(read.sha256 == waiting.sha256 for waiting in self._batch):
            self._later.append(read)
        else:
            self._batch.append(read)

    def _take_known(self, read: _Read) -> None:
        listed, same = read.listed, self._by_content[read.sha256]
        here = next((item for item in same if item.path == listed.path), None)
        left = next((item for item in same if not os.path.exists(item.path)), None)
        if here is not None or (left is not None and listed.path not in self._known):
            item = here or left
            assert item is not None
            values = {"path": listed.path, "size": listed.size, "mtime_ns": listed.mtime_ns}
            if listed.tabled:
                values |= {"label": listed.label, "columns": dict(listed.columns)}
            same[same.index(item)] = self._writer.change(item, **values)
            self._changes.unchanged += here is not None
            self._changes.moved += here is None
            return
        first = same[0]
        known = read._replace(width=first.width, height=first.height)
        self._copy(known, self._writer.vectors_of([first.row])[0])

    def _copy(self, read: _Read, vector: NDArray[np.float32]) -> None:
        self._embedded.append((read._replace(square=None), vector))
        self._changes.copied += 1

    def _embed(self) -> None:
        if not self._batch:
            return
        squares = torch.stack([read.square for read in self._batch if read.square is not None])
        vectors = self._model.embed_squares(squares).numpy()
        for read, vector in zip(self._batch, vectors, strict=True):
            self._fresh[read.sha256] = vector
            self._embedded.append((read._replace(square=None), vector))
            self._changes.added += read.listed.path not in self._known
            self._changes.changed += read.listed.path in self._known
        self._batch.clear()
        for read in self._later:
            self._copy(read, self._fresh[read.sha256])
        self._later.clear()

    def _save(self) -> None:
        if not self._embedded:
            return
        embedded, self._embedded = self._embedded, []
        self._fresh.clear()
        first_row = self._writer.rows
        items = [
            NewItem(
                path=read.listed.path,
                size=read.listed.size,
                mtime_ns=read.listed.mtime_ns,
                sha256=read.sha256,
                width=read.width,
                height=read.height,
                label=read.listed.label,
                columns=read.listed.columns,
            )
            for read, _ in embedded
        ]
        replaced = [self._known[item.path].id for item in items if item.path in self._known]
        self._writer.add(items, np.stack([vector for _, vector in embedded]), instead=replaced)
        self._committed.update((read.sha256, first_row + i) for i, (read, _) in enumerate(embedded))
