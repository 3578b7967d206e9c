"""Pairs of images that are copies of each other: proposed by a model, decided by their pixels.

A model may find nearly all images as similar as copies are, above all one that was not trained. So pixels are compared
where they are proposed, a block at a time, and a pair is kept only when it has passed both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.data import read_ahead
from dml.index.copies import CENTRES, LIKE, SIDE, TURNS, outlines
from dml.index.searching import Blocks, hits_above
from dml.model import EmbeddingModel
from dml.progress import progress

__all__ = ["NearPairs", "Pixels", "Queries", "near_pairs", "turned_queries"]

AT_ONCE = 64  # images of which all turns are embedded, or that wait to be compared
DENSE = 0.02  # share of the pairs of some rows from which on all of them are compared
PAIRS = 2**13  # that are compared at a time where few are
COLOURS = 3

ImageOf = Callable[[int], Image.Image | None]
IsPair = Callable[[NDArray[np.int64], NDArray[np.int64], int], NDArray[np.bool_]]


class Queries(NamedTuple):
    """Vectors (q, D) of the images of some rows (q,), as they are (way 0) or in one of the seven `TURNS` (1 to 7)."""

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    way: int = 0


class NearPairs(NamedTuple):
    """rows: (n, 2), the smaller one first, rising; similarities: (n,), the largest of each pair."""

    rows: NDArray[np.int64]
    similarities: NDArray[np.float64]


class Pixels:
    """Whether images are alike by their pixels; each is decoded once, when it is first asked for.

    image: gives that of a row; None where it cannot be read, and it is like no other.
    """

    def __init__(self, image: ImageOf) -> None:
        self._image = image
        self._outlines: dict[int, NDArray[np.float32]] = {}

    def alike(self, rows: NDArray[np.int64], others: NDArray[np.int64], way: int = 0) -> NDArray[np.bool_]:
        """For each of some pairs (n,) whether the first, turned that way, is like the other; see `likeness`."""
        (left, i), (right, j) = _numbered(rows), _numbered(others)
        a, b = _turned(self._of(left), way), self._of(right)
        if len(rows) > DENSE * len(left) * len(right):
            table = np.maximum(np.maximum(a[:, 0] @ b[:, 0].T, a[:, 0] @ b[:, 1].T), a[:, 1] @ b[:, 0].T)
            dense: NDArray[np.bool_] = table[i, j] >= LIKE
            return dense
        found = np.zeros(len(rows), bool)
        for start in range(0, len(rows), PAIRS):
            part = slice(start, start + PAIRS)
            one, other = a[i[part]], b[j[part]]
            products = [(one[:, x] * other[:, y]).sum(axis=1) for x, y in ((0, 0), (0, 1), (1, 0))]
            found[part] = np.max(products, axis=0) >= LIKE
        return found

    def _of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, 2, 768); NaN where an image cannot be read."""
        missing = [row for row in rows.tolist() if row not in self._outlines]
        self._outlines.update(zip(missing, read_ahead(missing, self._outline, ahead=AT_ONCE), strict=True))
        return np.stack([self._outlines[row] for row in rows.tolist()])

    def _outline(self, row: int) -> NDArray[np.float32]:
        image = self._image(row)
        if image is None:
            return np.full((len(CENTRES), SIDE * SIDE * COLOURS), np.nan, np.float32)
        return outlines(image)


def near_pairs(
    queries: Iterable[Queries],
    blocks: Callable[[], Blocks],
    above: float,
    *,
    is_pair: IsPair,
    pixels: Pixels | None,
) -> NearPairs:
    """All pairs of rows that are as similar as asked, and alike in pixels.

    Args:
        blocks: gives all rows from the first one on.
        is_pair: rows of queries, rows, way -> which of these may be a pair.
        pixels: None leaves it to the similarity.
    """
    found, similarities = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for asked in queries:

        def keep(
            numbers: NDArray[np.int64], rows: NDArray[np.int64], asked: Queries = asked
        ) -> NDArray[np.bool_]:
            own = asked.rows[numbers]
            kept = is_pair(own, rows, asked.way)
            if pixels is not None and kept.any():
                kept[kept] = pixels.alike(own[kept], rows[kept], asked.way)
            return kept

        numbers, rows, scores = hits_above(asked.vectors, blocks(), above, keep=keep)
        found.append(np.sort(np.stack([asked.rows[numbers], rows], axis=1), axis=1))
        similarities.append(scores)
    pairs, scores = np.concatenate(found), np.concatenate(similarities)
    order = np.lexsort([-scores, pairs[:, 1], pairs[:, 0]])
    pairs, scores = pairs[order], scores[order]
    first = np.ones(len(pairs), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return NearPairs(pairs[first], scores[first])


def turned_queries(model: EmbeddingModel, image: ImageOf, rows: NDArray[np.int64]) -> Iterator[Queries]:
    """The images of some rows in their seven other ways."""
    with progress("turning", len(rows)) as advance:
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            read = {row: found for row in part.tolist() if (found := image(row)) is not None}
            for way, turn in enumerate(TURNS, start=1):
                turned = [
                    Image.fromarray(np.ascontiguousarray(turn(np.asarray(found)))) for found in read.values()
                ]
                if turned:
                    yield Queries(model.embed(turned).numpy(), np.array(list(read), np.int64), way)
            advance(len(part))


def _numbered(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that occur, rising, and for each row the number of it among these; np.unique would sort millions."""
    lowest = rows.min()
    occurs = np.zeros(rows.max() - lowest + 1, bool)
    occurs[rows - lowest] = True
    return np.flatnonzero(occurs) + lowest, (np.cumsum(occurs) - 1)[rows - lowest]


def _turned(outlined: NDArray[np.float32], way: int) -> NDArray[np.float32]:
    """Outlines (n, 2, 768) of images that are turned."""
    if way == 0:
        return outlined
    squares = outlined.reshape(*outlined.shape[:2], SIDE, SIDE, COLOURS)
    turned = np.moveaxis(TURNS[way - 1](np.moveaxis(squares, (2, 3), (0, 1))), (0, 1), (2, 3))
    return np.ascontiguousarray(turned).reshape(outlined.shape)
