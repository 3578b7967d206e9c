"""What a test set is confused with: pairs of classes, and the similarities of matching and of other pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dml.randomness import numpy_generator
from dml.reporting.queries import QueryRanking

__all__ = ["ConfusedPair", "confused_pairs", "sampled_similarities"]

DRAWN = 20_000  # pairs of each kind


class ConfusedPair(NamedTuple):
    """Two classes: of so many queries of both, how often the nearest image is of the other."""

    first: int
    second: int
    confused: int
    queries: int


def confused_pairs(ranking: QueryRanking, labels: NDArray[np.int64], most: int) -> list[ConfusedPair]:
    """The pairs of classes whose queries most often have an image of the other as their nearest."""
    asked, nearest = labels[ranking.queries], labels[ranking.neighbours[:, 0]]
    wrong = asked != nearest
    pairs, counts = np.unique(
        np.sort(np.stack([asked, nearest], 1)[wrong], axis=1), axis=0, return_counts=True
    )
    queries = np.bincount(asked, minlength=int(labels.max()) + 1)
    found = [
        ConfusedPair(int(a), int(b), int(count), int(queries[a] + queries[b]))
        for (a, b), count in zip(pairs, counts, strict=True)
    ]
    return sorted(found, key=lambda pair: (-pair.confused, -pair.confused / pair.queries))[:most]


def sampled_similarities(
    vectors: NDArray[np.float32], labels: NDArray[np.int64]
) -> Mapping[str, NDArray[np.float64]]:
    """Similarities of pairs of images of one class, and of two classes, drawn by a fixed seed."""
    generator = numpy_generator(0, "pairs")
    order = np.argsort(labels, kind="stable")
    _, start, size = np.unique(labels[order], return_index=True, return_counts=True)
    group = np.repeat(np.arange(len(size)), size)  # of each place in the order
    able = np.flatnonzero(size[group] > 1)
    one = generator.choice(able, DRAWN)
    shift = 1 + (generator.random(DRAWN) * (size[group[one]] - 1)).astype(np.int64)
    other = start[group[one]] + (one - start[group[one]] + shift) % size[group[one]]
    pairs = generator.integers(0, len(labels), (2, 2 * DRAWN))
    apart = pairs[:, labels[pairs[0]] != labels[pairs[1]]][:, :DRAWN]
    return {
        "images of one class": _dot(vectors, order[one], order[other]),
        "images of two classes": _dot(vectors, *apart),
    }


def _dot(
    vectors: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.float64]:
    products: NDArray[np.float64] = np.einsum("nd,nd->n", vectors[one], vectors[other], dtype=np.float64)
    return products
