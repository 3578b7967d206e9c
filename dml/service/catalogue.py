"""The index that a service answers from: as it is on the disk now, changed by one request at a time."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dml.data import decode
from dml.data.decoding import decode_bytes
from dml.errors import FileError, InputError, MissingFileError, UnavailableError, UserError
from dml.index.index import Index
from dml.index.layout import write_whole
from dml.index.printing import Answer, answers_as_dict
from dml.index.store import Item
from dml.index.writer import NewItem, alone, open_writer
from dml.service.limits import TooLargeError

__all__ = ["Catalogue", "Picture", "Query"]

THUMBNAIL = 320  # pixels of its long side
LABELS = 1000  # that a page offers
UNIT = 1e-2  # how far from 1 a unit vector's length may be: float16 and JSON round it


class Picture(NamedTuple):
    """An image file that somebody sent, decoded.

    square: what the model sees, (3, size, size) uint8.
    suffix: of its format, with the dot.
    """

    content: bytes
    square: Tensor
    width: int
    height: int
    suffix: str


class Query(NamedTuple):
    """What somebody asks: by one of a square, vectors (n, D), and the number of an item."""

    name: str
    k: int | None = None
    above: float | None = None
    label: str | None = None
    square: Tensor | None = None
    vectors: NDArray[np.float32] | None = None
    item: int | None = None


class Catalogue:
    """Searches in an index and changes it. What another process changes is seen by the next question.

    `answer` belongs to one thread, `add` and `remove` to another one; the rest may run anywhere.

    Raises:
        MissingFileError, InputError: as `Index.model`.
    """

    def __init__(self, index: Index, *, pixels: int) -> None:
        self._index, self._pixels = index, pixels
        self._folder = index.store.folder
        self._model = index.model
        self._seen: tuple[int, int, int] | None = None
        self._lock = threading.Lock()  # of the index that is open: who asks it, and who opens it anew

    def close(self) -> None:
        with self._lock:
            self._index.store.close()

    def read(self, content: bytes) -> Picture:
        """What somebody sent, as an image.

        Raises:
            TooLargeError: it has more pixels than the service takes.
            FileError: it is no image, or a damaged one.
        """
        suffix = ""
        try:
            with Image.open(io.BytesIO(content)) as opened:
                (width, height), suffix = opened.size, (opened.format or "").lower()
        except Exception:  # decode_bytes says what is wrong, and has a limit of its own
            width = height = 0
        if width * height > self._pixels:
            raise TooLargeError(
                f"the image has {width:,} × {height:,} pixels, and this service takes {self._pixels:,}: make it smaller"
            )
        pixels = decode_bytes(content, "the image").pixels
        height, width = pixels.shape[:2]
        square = self._model.preprocess(pixels)
        return Picture(content, square, width, height, f".{suffix.replace('jpeg', 'jpg') or 'image'}")

    def embed(self, squares: Sequence[Tensor]) -> NDArray[np.float32]:
        """The vectors (n, D) of what the model sees."""
        vectors: NDArray[np.float32] = self._model.embed_squares(torch.stack(list(squares))).numpy()
        return vectors

    def answer(self, queries: Sequence[Query]) -> list[dict[str, Any] | UserError]:
        """For each query what `dml search --json` prints for it, or why it has no answer.

        Raises:
            UnavailableError: the index was upgraded to another model, or is damaged.
        """
        pictures = [query.square for query in queries if query.square is not None]
        embedded = iter(self.embed(pictures)) if pictures else iter(())
        with self._lock:
            index = self._newest()
            vectors: list[NDArray[np.float32] | UserError] = [
                next(embedded)[None] if query.square is not None else _vectors(index, query)
                for query in queries
            ]
            answers: list[dict[str, Any] | UserError] = [
                found if isinstance(found, UserError) else {} for found in vectors
            ]
            for alike in _alike(queries, vectors):
                _answer_alike(index, alike, queries, vectors, answers)
        return answers

    def describe(self) -> dict[str, Any]:
        """The model, how many images there are, how exact an answer is and from which similarity on it is a match."""
        with self._lock:
            found = answers_as_dict(self._newest(), [])
        del found["queries"]
        return found

    def labels(self) -> dict[str, int]:
        """How many images have each of the most frequent labels."""
        with self._lock:
            return self._newest().store.labels(LABELS)

    def thumbnail(self, number: int) -> bytes:
        """A small JPEG of an image of the index; its path is that which the index knows.

        Raises:
            MissingFileError: there is no such item, or its file is gone or no image any more.
        """
        with self._lock:
            item = self._newest().store.item(number)
        if item is None:
            raise _no_item(number)
        try:
            image = Image.fromarray(decode(item.path))
        except UserError as error:
            raise MissingFileError(f"the file of item {number} cannot be read any more: {error}") from error
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        return file.getvalue()

    def add(self, picture: Picture, vector: NDArray[np.float32], label: str | None) -> tuple[Item, bool]:
        """Take an image into the index, and its file into the folder `uploads` of it; the item, and whether it is new.

        An image with the same bytes is not taken in again.

        Raises:
            OccupiedError: another process is changing the index.
            UnavailableError: the index was upgraded to another model.
            FileError: the disk is full, or whatever else the system says; nothing is left behind.
        """
        sha256 = hashlib.sha256(picture.content).hexdigest()
        with alone(self._folder), open_writer(self._folder) as writer:
            if writer.info.fingerprint != self._index.store.info.fingerprint:
                raise UnavailableError(
                    f"{self._folder} was upgraded to another model: start the service again"
                )
            if known := writer.items_with("sha256", [sha256]):
                return known[0], False
            path = Path(os.path.abspath(self._folder.uploads / f"{sha256}{picture.suffix}"))
            try:
                path.parent.mkdir(exist_ok=True)
                write_whole(path, picture.content)
                status = path.stat()
                new = NewItem(
                    str(path), status.st_size, status.st_mtime_ns, sha256,
                    picture.width, picture.height, label, {},
                )  # fmt: skip
                writer.take_back([str(path)])
                writer.add([new], vector[None])
            except BaseException as error:
                for left in (path, path.with_name(f"{path.name}.partial")):
                    left.unlink(missing_ok=True)
                if isinstance(error, OSError) and not isinstance(error, UserError):
                    raise FileError(f"the image cannot be kept: {error.strerror or error}") from error
                raise
            writer.finish()
            return writer.items_with("sha256", [sha256])[0], True

    def remove(self, number: int) -> None:
        """Remove an item from the index; the file too, if the service was given it.

        Raises:
            MissingFileError: there is no such item.
            OccupiedError: another process is changing the index.
        """
        with alone(self._folder), open_writer(self._folder) as writer:
            item = writer.item(number)
            if item is None:
                raise _no_item(number)
            writer.remove([number], leave_out=[item.path])
            writer.finish()
            if Path(item.path).parent == Path(os.path.abspath(self._folder.uploads)):
                Path(item.path).unlink(missing_ok=True)

    def _newest(self) -> Index:
        """The index as it is now, opened anew if it was changed since."""
        state = self._state()
        if state != self._seen:
            self._index = self._index.reopened()
            self._seen = state
        return self._index

    def _state(self) -> tuple[int, int, int]:
        """What changes when index.json is written."""
        try:
            status = os.stat(self._folder.info)
        except OSError:  # opening it says what is wrong
            return 0, 0, 0
        return status.st_mtime_ns, status.st_ino, status.st_size


def _no_item(number: int) -> MissingFileError:
    return MissingFileError(f"there is no item {number}: give the `item` of a hit")


def _vectors(index: Index, query: Query) -> NDArray[np.float32] | UserError:
    if query.vectors is not None:
        try:
            return _unit(index.check_vectors(query.vectors))
        except UserError as error:
            return error
    assert query.item is not None
    item = index.store.item(query.item)
    return _no_item(query.item) if item is None else index.store.vectors_of([item.row])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1)
    if (wrong := np.abs(lengths - 1) > UNIT).any():
        raise InputError(
            f"vector {int(wrong.argmax())} has the length {lengths[wrong.argmax()]:.4g}: give unit vectors, as "
            "model.embed makes them, or their scores are no similarities"
        )
    return vectors


def _alike(queries: Sequence[Query], vectors: Sequence[NDArray[np.float32] | UserError]) -> list[list[int]]:
    """The places of queries that one search answers: those with the same wishes."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for number, query in enumerate(queries):
        if not isinstance(vectors[number], UserError):
            found.setdefault((query.k, query.above, query.label), []).append(number)
    return list(found.values())


def _answer_alike(
    index: Index,
    alike: Sequence[int],
    queries: Sequence[Query],
    vectors: Sequence[NDArray[np.float32] | UserError],
    answers: list[dict[str, Any] | UserError],
) -> None:
    """Put the answers to queries with the same wishes, or why there are none, into their places."""
    asked = [found for number in alike if not isinstance(found := vectors[number], UserError)]
    _, k, above, label, *_ = queries[alike[0]]
    try:
        hits = iter(index.search_vectors(np.concatenate(asked), k, above=above, label=label))
    except UserError as error:
        for number in alike:
            answers[number] = error
        return
    for number, own in zip(alike, asked, strict=True):
        name = queries[number].name
        names = [name] if len(own) == 1 else [f"{name} {place}" for place in range(len(own))]
        answers[number] = answers_as_dict(index, [Answer(name, next(hits)) for name in names])
