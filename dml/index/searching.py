"""Exact search through vectors that lie on the disk, some of them at a time.

float32 products propose, float64 products decide, and among equals the first row comes first. So neither the size of a
block nor the number of queries nor the processor changes an answer.

Axis letters: Q queries, D embedding dimension, k neighbours, n vectors of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dml.retrieval import backends

__all__ = ["Blocks", "Nearest", "dot_products", "error_bound", "hits_above", "search_blocks"]

CELLS = 2**23  # float32 products that are in memory at a time
NOTHING = np.empty(0, np.int64)
PAIRS = 2**16  # float64 products at a time
Blocks = Iterable[tuple[int, NDArray[np.float32]]]


class Nearest(NamedTuple):
    """scores: (Q, k) float64, falling; rows: (Q, k) int64. Where there are fewer than k, -inf and -1 stand behind."""

    scores: NDArray[np.float64]
    rows: NDArray[np.int64]


def search_blocks(
    queries: NDArray[np.float32], blocks: Blocks, k: int, *, leave_out: NDArray[np.int64]
) -> Nearest:
    """The k vectors with the largest dot product for each query (Q, D).

    Args:
        blocks: first row and vectors (n, D) of each block, by rising rows.
        leave_out: rows that are not found, rising.
    """
    best = Nearest(np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1, np.int64))
    longest = float(np.linalg.norm(queries, axis=1).max(initial=1.0))
    bound = error_bound(queries.shape[1]) * longest
    for start, vectors in blocks:
        gone = _inside(leave_out, start, len(vectors))
        for part in _parts(len(queries), len(vectors)):
            similarities = _products(queries[part], vectors)
            similarities[:, gone] = -np.inf
            floor = best.scores[part, -1] - bound
            if k <= len(vectors):
                kth = torch.from_numpy(similarities).topk(k, dim=1).values[:, -1].numpy()
                floor = np.maximum(floor, kth - 2 * bound)
            query, column = np.nonzero((similarities >= floor[:, None]) & (similarities > -np.inf))
            exact = dot_products(queries[part], vectors, query, column)
            _merge(best, part.start, query, start + column, exact)
    return best


def hits_above(
    queries: NDArray[np.float32],
    blocks: Blocks,
    above: float,
    *,
    keep: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All rows whose dot product with a query (Q, D) is at least a number: number of the query, row and product.

    keep: numbers of queries and rows -> which of these are wanted at all.
    """
    bound = error_bound(queries.shape[1])
    numbers, rows, scores = [NOTHING], [NOTHING], [np.empty(0)]
    for first, block in blocks:
        for part in _parts(len(queries), len(block)):
            i, j = np.nonzero(_products(queries[part], block) >= above - bound)
            if keep is not None and len(i):
                wanted = keep(part.start + i, first + j)
                i, j = i[wanted], j[wanted]
            exact = dot_products(queries[part], block, i, j)
            kept = exact >= above
            numbers.append(part.start + i[kept])
            rows.append(first + j[kept])
            scores.append(exact[kept])
    return np.concatenate(numbers), np.concatenate(rows), np.concatenate(scores)


def dot_products(
    a: NDArray[np.float32], b: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Products of pairs of vectors in float64, equal for equal vectors wherever they stand."""
    products = np.empty(len(rows))
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        products[part] = (a[rows[part]].astype(np.float64) * b[columns[part]]).sum(axis=1)
    return products


def error_bound(dimension: int) -> float:
    """What a float32 product of two unit vectors can be off, in any order of summation.

    |error| ≤ D u |x|·|y| / (1 - D u), u = 2^-24. Source: Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1. float16 makes vectors longer by at most 1e-3.
    """
    rounding = dimension * 2.0**-24
    return rounding / (1 - rounding) * 1.01


def _parts(count: int, width: int) -> list[slice]:
    """Slices of so many queries that their products with so many vectors fit into memory."""
    at_a_time = max(1, CELLS // width)
    return [slice(first, first + at_a_time) for first in range(0, count, at_a_time)]


def _products(queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 products (Q, n)."""
    with backends.no_tf32():
        return (torch.from_numpy(queries) @ torch.from_numpy(vectors).T).numpy()


def _inside(rows: NDArray[np.int64], start: int, count: int) -> NDArray[np.int64]:
    """Those of rising rows that lie in a block, counted from its start."""
    low, high = np.searchsorted(rows, [start, start + count])
    return rows[low:high] - start


def _merge(
    best: Nearest,
    first: int,
    query: NDArray[np.int64],
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> None:
    """Put candidates of a block, sorted by query, among the best that were found before."""
    k = best.scores.shape[1]
    for number in np.unique(query):
        low, high = np.searchsorted(query, [number, number + 1])
        all_scores = np.concatenate([best.scores[first + number], scores[low:high]])
        all_rows = np.concatenate([best.rows[first + number], rows[low:high]])
        order = np.lexsort([all_rows, -all_scores])[:k]
        best.scores[first + number], best.rows[first + number] = all_scores[order], all_rows[order]
