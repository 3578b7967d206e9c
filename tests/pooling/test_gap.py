"""Global average pooling keeps the contract that every pooling keeps."""

from __future__ import annotations

import pytest
import torch

from dml.pooling import GlobalAveragePooling
from dml.pooling.gap import as_locations


def test_vectors_are_means_and_weights_are_uniform_for_maps_and_tokens() -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    pooling = GlobalAveragePooling(3)
    for given in (features, features.flatten(2).mT):
        pooled = pooling(given)
        torch.testing.assert_close(pooled.vectors, features.mean((2, 3)))
        assert torch.equal(pooled.weights, torch.full((2, 20), 1 / 20))
        assert pooled.attributes is None


def test_gap_publishes_what_the_model_asks_for() -> None:
    assert GlobalAveragePooling(7).out_channels == 7
    assert GlobalAveragePooling.pools_embedded is False
    assert not list(GlobalAveragePooling(7).parameters())


def test_vectors_keep_the_type_of_the_features_and_weights_are_float32() -> None:
    pooled = GlobalAveragePooling(3)(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16))
    assert pooled.vectors.dtype == torch.bfloat16
    assert pooled.weights.dtype == torch.float32


def test_a_contiguous_map_is_viewed_not_copied() -> None:
    features = torch.zeros(2, 3, 4, 5)
    assert as_locations(features, 3).data_ptr() == features.data_ptr()


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 5, 5), (2, 3, 4)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features have shape .*expected a map .* or tokens"):
        GlobalAveragePooling(3)(torch.zeros(shape))
