"""The share of weights on tiles, against an area that is counted pixel by pixel."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dml.functional.selection import share_on_tiles


def slow_share(weights: Tensor, tiles: Tensor, side: int, grid: int) -> float:
    """Paint location and tile on a canvas that both divide, and count."""
    canvas, total = side * grid, 0.0
    for y in range(canvas):
        for x in range(canvas):
            weight = weights[(y // grid) * side + x // grid] / grid**2
            total += float(weight) * bool(tiles[y // side, x // side])
    return total


@given(side=st.integers(1, 7), grid=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_share_is_the_weight_times_the_area_on_the_tiles(side: int, grid: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(2, side**2, generator=generator, dtype=torch.float64)
    tiles = torch.rand(2, grid, grid, generator=generator) < 0.5
    shares = share_on_tiles(weights, tiles)
    for share, row, mask in zip(shares, weights, tiles, strict=True):
        assert share.item() == pytest.approx(slow_share(row, mask, side, grid), abs=1e-6)


def test_uniform_weights_have_the_share_of_chance() -> None:
    tiles = torch.tensor([[[True, False], [False, False]]])
    assert share_on_tiles(torch.full((1, 49), 1 / 49), tiles).item() == pytest.approx(0.25)


def test_weights_on_the_target_alone_have_the_share_one() -> None:
    weights = torch.zeros(1, 4, 4)
    weights[0, 2:, 2:] = 0.25
    tiles = torch.tensor([[[False, False], [False, True]]])
    assert share_on_tiles(weights.flatten(1), tiles).item() == pytest.approx(1.0)


def test_locations_that_are_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="weights of 6 locations"):
        share_on_tiles(torch.rand(1, 6), torch.ones(1, 2, 2, dtype=torch.bool))
