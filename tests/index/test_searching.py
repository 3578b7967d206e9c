from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dml.index import searching
from dml.index.searching import Nearest, dot_products, hits_above, search_blocks

NOTHING = np.empty(0, np.int64)


def unit(rows: int, dim: int = 16, seed: int = 0, copies: int = 0) -> NDArray[np.float32]:
    """Unit vectors, the last ones copies of the first."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if copies:
        vectors[-copies:] = vectors[:copies]
    return vectors


def blocks(vectors: NDArray[np.float32], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    return ((start, vectors[start : start + size]) for start in range(0, len(vectors), size))


def oracle(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, gone: NDArray[np.int64]
) -> Nearest:
    """All products in float64, sorted by falling product and rising row."""
    scores = np.array([[float(np.dot(q.astype(float), v.astype(float))) for v in vectors] for q in queries])
    scores = scores.round(13)  # equal vectors may differ in the last bits of another order of summation
    scores[:, gone] = -np.inf
    rows = np.array([np.lexsort([np.arange(len(vectors)), -line])[:k] for line in scores])
    return Nearest(np.take_along_axis(scores, rows, axis=1), rows)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), size=st.integers(1, 70), k=st.integers(1, 12), copies=st.integers(0, 25))
def test_the_nearest_are_those_of_all_products_in_float64_whatever_the_block(
    seed: int, size: int, k: int, copies: int
) -> None:
    vectors, queries = unit(60, seed=seed, copies=copies), unit(5, seed=seed + 1)
    queries[0] = vectors[0]
    gone = np.sort(np.random.default_rng(seed).choice(60, seed % 20, replace=False)).astype(np.int64)
    found = search_blocks(queries, blocks(vectors, size), k, leave_out=gone)
    expected = oracle(queries, vectors, k, gone)
    assert np.array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-12)


def test_of_equal_vectors_the_first_come_first_though_float32_cannot_tell_a_thousand_others_apart() -> None:
    base = unit(1, dim=64)[0]
    nearly = np.repeat(base[None], 3000, axis=0)
    nearly[:, 0] += np.random.default_rng(0).integers(0, 2, 3000).astype(np.float32) * np.float32(2.0**-24)
    found = search_blocks(base[None], blocks(nearly, 512), 40, leave_out=NOTHING)
    exact = dot_products(base[None], nearly, np.zeros(3000, np.int64), np.arange(3000))
    assert len(set(exact.tolist())) == 2
    order = np.lexsort([np.arange(3000), -exact])[:40]
    assert np.array_equal(found.rows[0], order)


def test_a_search_that_finds_fewer_than_asked_for_ends_with_nothing() -> None:
    vectors = unit(3)
    found = search_blocks(vectors[:1], blocks(vectors, 2), 3, leave_out=np.array([1]))
    assert found.rows[0].tolist() == [0, 2, -1] and found.scores[0, 2] == -np.inf


def test_queries_that_are_longer_than_one_are_searched_exactly_too() -> None:
    vectors, queries = unit(400, dim=32), 1000 * unit(3, dim=32, seed=5)
    found = search_blocks(queries, blocks(vectors, 64), 9, leave_out=NOTHING)
    assert np.array_equal(found.rows, oracle(queries, vectors, 9, NOTHING).rows)


def test_few_products_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(500)
    expected = search_blocks(vectors, blocks(vectors, 100), 5, leave_out=NOTHING)
    monkeypatch.setattr(searching, "CELLS", 300)
    monkeypatch.setattr(searching, "PAIRS", 7)
    sizes = []
    products = searching._products
    monkeypatch.setattr(searching, "_products", lambda q, v: sizes.append(len(q) * len(v)) or products(q, v))
    found = search_blocks(vectors, blocks(vectors, 100), 5, leave_out=NOTHING)
    assert max(sizes) == 300 and np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_hits_above_a_number_are_those_of_all_products(size: int) -> None:
    vectors = unit(40, dim=4, copies=5)
    found = hits_above(vectors, blocks(vectors, size), 0.9, keep=lambda i, j: i < j)
    pairs = {(int(i), int(j)): score for i, j, score in zip(*found, strict=True)}
    exact = vectors.astype(float) @ vectors.astype(float).T
    expected = {(i, j): exact[i, j] for i in range(40) for j in range(i + 1, 40) if exact[i, j] >= 0.9}
    assert pairs.keys() == expected.keys() and len(pairs) >= 5
    assert all(abs(pairs[pair] - expected[pair]) < 1e-12 for pair in pairs)
