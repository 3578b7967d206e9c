"""The neighbours that people see: those of a full sort, without the query itself."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from dml.retrieval import nearest_neighbours


def unit(count: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_in_one_set_an_own_entry_goes_by_its_index_also_if_it_has_a_double(backend: str) -> None:
    vectors = unit(30, seed=0)
    vectors[7] = vectors[3]
    similarities = vectors.double().numpy() @ vectors.double().numpy().T
    np.fill_diagonal(similarities, -2)
    found = nearest_neighbours(vectors, None, 5, backend=backend)
    np.testing.assert_allclose(found.similarities, -np.sort(-similarities, axis=1)[:, :5], atol=1e-6)
    assert not (found.indices == torch.arange(30)[:, None]).any()
    assert found.indices[7, 0] == 3 and found.indices[3, 0] == 7


def test_in_a_gallery_of_its_own_nothing_is_left_out() -> None:
    query, gallery = unit(8, seed=1), unit(20, seed=2)
    gallery[4] = query[4]
    found = nearest_neighbours(query, gallery, 20)
    assert found.indices[4, 0] == 4 and sorted(found.indices[0].tolist()) == list(range(20))


@pytest.mark.parametrize(("k", "gallery", "most"), [(0, None, 7), (8, None, 7), (6, 5, 5)])
def test_more_neighbours_than_others_are_refused(k: int, gallery: int | None, most: int) -> None:
    with pytest.raises(ValueError, match=f"{k} neighbours were asked for.*ask for 1 to {most}"):
        nearest_neighbours(unit(8, seed=1), None if gallery is None else unit(gallery, seed=2), k)
