"""Exact search: the neighbours that numpy finds, from every backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from dml.retrieval import exact_search

BACKENDS = ("faiss", "torch")


def unit(count: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 7, 130, 200])
def test_neighbours_are_those_of_a_full_sort(backend, k):
    query, gallery = unit(50, seed=1), unit(200, seed=2)
    similarities = query.double().numpy() @ gallery.double().numpy().T
    found = exact_search(query, gallery, k, backend=backend)
    assert np.array_equal(found.indices.numpy(), np.argsort(-similarities, axis=1)[:, :k])
    assert np.allclose(found.similarities.numpy(), -np.sort(-similarities, axis=1)[:, :k], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_item_finds_itself_first(backend):
    x = unit(100)
    assert torch.equal(exact_search(x, x, 3, backend=backend).indices[:, 0], torch.arange(100))


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunk_size_does_not_change_the_neighbours(backend):
    query, gallery = unit(50, seed=1), unit(200, seed=2)
    whole, chunked = (exact_search(query, gallery, 9, backend=backend, chunk_size=c) for c in (50, 7))
    assert torch.equal(whole.indices, chunked.indices)
    assert torch.allclose(whole.similarities, chunked.similarities, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_types_are_float32_and_int64_whatever_comes_in(backend):
    for x in (unit(20).half(), unit(20).double(), unit(20).numpy(), unit(20).requires_grad_()):
        found = exact_search(x, x, 2, backend=backend)
        assert (found.similarities.dtype, found.indices.dtype) == (torch.float32, torch.int64)
        assert not found.similarities.requires_grad


def test_neither_autocast_nor_the_matmul_precision_of_training_reach_the_search():
    x = unit(300)
    expected = exact_search(x, x, 5, backend="torch")
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = exact_search(x, x, 5, backend="torch")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found.similarities, expected.similarities)


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds():
    x = unit(500)
    found, expected = exact_search(x.cuda(), x.cuda(), 5, backend="torch"), exact_search(x, x, 5)
    assert torch.equal(found.indices.cpu(), expected.indices) and found.indices.is_cuda


@pytest.mark.parametrize("k", [0, 21])
def test_more_neighbours_than_items_are_refused(k):
    with pytest.raises(ValueError, match=f"k is {k}, but the gallery has 20 items"):
        exact_search(unit(5), unit(20), k)


def test_a_row_with_nan_is_refused_by_its_number():
    x = unit(20)
    x[11, 3] = float("nan")
    with pytest.raises(ValueError, match="Row 11 of the gallery embeddings holds nan"):
        exact_search(unit(5), x, 2)


@pytest.mark.parametrize("value", [3e38, 1e25])
def test_finite_values_whose_products_overflow_are_refused(value):
    x = unit(20)
    x[3] = value  # faiss would find the item -1
    with pytest.raises(ValueError, match=r"Row 3 of the query embeddings holds .*e\+.*finite products"):
        exact_search(x, unit(20), 2)


def test_a_vector_in_place_of_a_matrix_is_refused():
    with pytest.raises(ValueError, match=r"query embeddings have shape \(24,\)"):
        exact_search(unit(5)[0], unit(20), 2)
