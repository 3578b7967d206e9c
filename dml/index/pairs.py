"""How similar images of one class and of two classes are: the pairs of a set, and rates of them above a threshold.

Axis letters: n images, D embedding dimension, C classes, P pairs of a class, M pairs of two classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dml.errors import InputError

__all__ = ["Pairs", "Rates", "Thresholds", "rates_at", "similar_pairs", "thresholds_of"]

MOST = (
    2**21
)  # pairs of two classes that are kept: the most similar ones, which are those that a threshold lets through
BINS = 2**14  # of the similarity, where the most similar ones are looked for
ROWS = 512  # of similarities that are in memory at a time


@dataclass(frozen=True)
class Pairs:
    """The pairs of a set.

    same:          (P,) similarities of the pairs of one class, falling.
    same_class:    (P,) the class of each.
    other:         (M,) similarities of the most similar pairs of two classes, falling.
    other_classes: (M, 2) the classes of each.
    sizes:         (C,) images of each class.
    """

    same: NDArray[np.float32]
    same_class: NDArray[np.int64]
    other: NDArray[np.float32]
    other_classes: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @cached_property
    def others(self) -> int:
        """The number of all pairs of two classes."""
        total = int(self.sizes.sum())
        return (total**2 - int((self.sizes**2).sum())) // 2

    @property
    def complete(self) -> bool:
        """Whether `other` has all pairs of two classes."""
        return len(self.other) == self.others


class Thresholds(NamedTuple):
    """values (R,), and how many of `Pairs.same` and `Pairs.other` reach each."""

    values: NDArray[np.floating[Any]]
    same: NDArray[np.int64]
    other: NDArray[np.int64]


@dataclass(frozen=True)
class Rates:
    """Shares of pairs at a threshold or more, one an entry: of those of one class, and of those of two."""

    recall: NDArray[np.float64]
    false_match: NDArray[np.float64]

    def precision(self, prevalence: float) -> NDArray[np.float64]:
        """The share of matches that are right where this share of pairs is of one class; 1 where there is no match."""
        right = prevalence * self.recall
        matches = right + (1 - prevalence) * self.false_match
        return np.divide(right, matches, out=np.ones_like(right), where=matches > 0)


def similar_pairs(vectors: NDArray[np.float32], labels: NDArray[np.int64], *, most: int = MOST) -> Pairs:
    """All pairs of one class, and the most similar ones of two, of a set (n, D) with labels (n,) from 0.

    Raises:
        InputError: no class has two images, or there is one class only.
    """
    sizes = np.bincount(labels)
    total = len(labels)
    others = (total**2 - int((sizes**2).sum())) // 2
    if not others or not (sizes > 1).any():
        raise InputError(
            f"{total} images of {(sizes > 0).sum()} classes have no pair of one class or none of two: a threshold is "
            "measured on several classes of at least two images"
        )
    floor = _floor(vectors, labels, most) if others > most else -np.inf
    parts = []
    for rows, similarities in _upper(vectors):
        i, j = np.nonzero(~np.isnan(similarities))
        i, j, found = i + rows.start, j, similarities[i, j]
        kept = (labels[i] == labels[j]) | (found >= floor)
        parts.append((i[kept], j[kept], found[kept]))
    i, j, found = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(-found, kind="stable")
    i, j, found = labels[i[order]], labels[j[order]], found[order]
    same = i == j
    return Pairs(found[same], i[same], found[~same], np.stack([i, j], axis=1)[~same], sizes)


def thresholds_of(pairs: Pairs, values: NDArray[np.floating[Any]]) -> Thresholds:
    """Similarities from which on a pair matches, with the pairs that reach each of them counted."""
    return Thresholds(values, _count_above(pairs.same, values), _count_above(pairs.other, values))


def rates_at(pairs: Pairs, thresholds: Thresholds, weights: NDArray[np.float64] | None = None) -> Rates:
    """The rates at some thresholds; weights (C,) count each class so many times, and no class against itself.

    Below the least similar pair of two classes that was kept, false_match is NaN.
    """
    weights = np.ones(len(pairs.sizes)) if weights is None else weights
    weighted = weights * pairs.sizes
    same_total = (weights * (pairs.sizes * (pairs.sizes - 1) / 2)).sum()
    other_total = (weighted.sum() ** 2 - (weighted**2).sum()) / 2
    a, b = pairs.other_classes.T
    same = _running(weights[pairs.same_class])[thresholds.same]
    other = _running(weights[a] * weights[b])[thresholds.other]
    recall = same / same_total if same_total else np.zeros(len(same))
    false_match = other / other_total if other_total else np.ones(len(other))
    unknown = thresholds.values < pairs.other[-1]
    return Rates(recall, false_match if pairs.complete else np.where(unknown, np.nan, false_match))


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values)])


def _count_above(falling: NDArray[np.float32], thresholds: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """How many values reach each threshold."""
    return len(falling) - np.searchsorted(falling[::-1], thresholds, side="left")


def _upper(vectors: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Similarities of some rows with all others, NaN for each pair that has come before or is no pair."""
    for start in range(0, len(vectors), ROWS):
        rows = slice(start, min(start + ROWS, len(vectors)))
        similarities = vectors[rows] @ vectors.T
        below = np.arange(len(vectors)) <= np.arange(rows.start, rows.stop)[:, None]
        similarities[below] = np.nan
        yield rows, similarities


def _floor(vectors: NDArray[np.float32], labels: NDArray[np.int64], most: int) -> float:
    """A similarity above which there are at most so many pairs of two classes."""
    counts = np.zeros(BINS, np.int64)
    for rows, similarities in _upper(vectors):
        similarities[labels[rows, None] == labels[None]] = np.nan
        counts += np.histogram(similarities[~np.isnan(similarities)], BINS, (-1.001, 1.001))[0]
    above = np.cumsum(counts[::-1])[::-1]
    edges = np.histogram_bin_edges([], BINS, (-1.001, 1.001))
    return float(edges[int((above > most).sum())])
