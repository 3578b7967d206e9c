"""Mean over one tile of a grid: a pooling that is told where to look, for the controlled study."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.selection import weights_of_tile
from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["TilePooling"]


class TilePooling(nn.Module):
    """``vector = Σ_i s_i f_i`` with s uniform over one tile of a grid, and 0 elsewhere: what perfect selection gives.

    It goes with ``dataset.target_place``, which puts the targets of all collages there.

    Takes a map (B, C, H, W), or tokens (B, N, C), which are taken for a square map, or else for a single row; returns
    vectors (B, C) in the type of the features, no attributes, and weights (B, N) in float32 or better. A location that
    lies on the tile in part counts in part.

    in_channels: C.
    grid:        tiles a side.
    place:       which one, row after row from 0.

    Raises InputError if the place is not on the grid, or if the features do not fit `in_channels`.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, grid: int, place: int) -> None:
        super().__init__()
        check_counts(grid=grid)
        if not 0 <= place < grid**2:
            raise InputError(
                f"pooling.place={place}: a grid of {grid} × {grid} has the places 0 to {grid**2 - 1}"
            )
        self.out_channels, self.grid, self.place = in_channels, grid, place

    def forward(self, features: Tensor) -> Pooled:
        locations = as_locations(features, self.out_channels)  # (B, C, N)
        with full_precision(features):
            precise = at_least_float32(locations)
            weights = weights_of_tile(*_shape(features), grid=self.grid, place=self.place).to(precise)
            vectors = precise @ weights
        return Pooled(vectors.to(features.dtype), None, weights.expand(locations.shape[0], -1))


def _shape(features: Tensor) -> tuple[int, int]:
    """Height and width of the map."""
    if features.ndim == 4:
        return features.shape[2], features.shape[3]
    side = math.isqrt(features.shape[1])
    return (side, side) if side * side == features.shape[1] else (1, features.shape[1])
