"""How much of what a pooling looks at lies where the label is, for images in which that is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dml.errors import InputError

__all__ = ["share_on_tiles", "weights_of_tile"]


def share_on_tiles(weights: Tensor, tiles: Tensor) -> Tensor:
    """The share of each image's weights that lies on some of the tiles of a grid.

        share = Σ_i weights_i · |location i ∩ tiles| / |location i|

    Args:
        weights: (B, N), N = s² locations of a square map, row after row; rows sum to 1.
        tiles: (B, g, g) bool, the same square cut into g × g.

    Returns:
        (B,) from 0 to 1, in the type of the weights.

    Raises:
        InputError: the locations are no square map.
    """
    side = math.isqrt(weights.shape[1])
    if side * side != weights.shape[1]:
        raise InputError(
            f"weights of {weights.shape[1]} locations: the share on tiles is defined for a square map"
        )
    overlap = _overlap(side, tiles.shape[1]).to(weights)  # (s, g)
    mask = torch.einsum("ir,brc,jc->bij", overlap, tiles.to(weights), overlap)
    return (weights * mask.flatten(1)).sum(1)


def weights_of_tile(height: int, width: int, *, grid: int, place: int) -> Tensor:
    """Weights of the locations of a map that are alike on one of g × g tiles and 0 elsewhere: (H·W,), summing to 1.

    place: of the tile, row after row from 0. A location that lies on it in part counts in part.
    """
    row, column = divmod(place, grid)
    area = torch.outer(_overlap(height, grid)[:, row], _overlap(width, grid)[:, column]).flatten()
    return area / area.sum()


def _overlap(count: int, parts: int) -> Tensor:
    """(count, parts): how much of each of ``count`` equal intervals lies in each of ``parts`` equal ones."""
    low, start = (torch.arange(n, dtype=torch.float64) / n for n in (count, parts))
    upper = torch.minimum((low + 1 / count)[:, None], start + 1 / parts)
    return (upper - torch.maximum(low[:, None], start)).clamp(min=0) * count
