"""The pooling that is told where to look."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dml.functional.selection import share_on_tiles
from dml.pooling import TilePooling


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("place", range(4))
def test_it_is_the_mean_over_its_tile(place: int) -> None:
    features, (row, column) = normal(3, 5, 8, 6), divmod(place, 2)
    part = features[:, :, 4 * row : 4 * row + 4, 3 * column : 3 * column + 3]
    pooled = TilePooling(5, grid=2, place=place)(features)
    torch.testing.assert_close(pooled.vectors, part.mean((2, 3)))


@pytest.mark.parametrize("side", [4, 5, 7])
def test_its_weights_lie_on_the_tile_as_far_as_locations_do(side: int) -> None:
    tiles = torch.zeros(2, 3, 3, dtype=torch.bool)
    tiles[:, 1, 2] = True
    weights = TilePooling(5, grid=3, place=5)(normal(2, 5, side, side)).weights
    assert weights is not None
    inside = share_on_tiles((weights > 0) / (weights > 0).sum(1, keepdim=True), tiles)
    assert (share_on_tiles(weights, tiles) >= inside - 1e-6).all() and (weights.sum(1) - 1).abs().max() < 1e-6


def test_tokens_are_taken_for_a_square() -> None:
    features, layer = normal(2, 5, 4, 4), TilePooling(5, grid=2, place=3)
    torch.testing.assert_close(layer(features.flatten(2).mT), layer(features))


@pytest.mark.parametrize("place", [-1, 4])
def test_a_place_beyond_the_grid_is_refused(place: int) -> None:
    with pytest.raises(ValueError, match=rf"place={place}: a grid of 2 × 2 has the places 0 to 3"):
        TilePooling(5, grid=2, place=place)
