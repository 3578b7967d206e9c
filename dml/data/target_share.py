"""What a pooling looks at, where it is known what it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dml.functional.selection import share_on_tiles
from dml.types import Pooled

__all__ = ["TargetShare"]


class TargetShare:
    """The share of the weights of each image that lies on its targets: `selection_accuracy` in the mean.

    target_tiles: row -> (g, g) bool, where the targets lie in its image.
    """

    def __init__(self, target_tiles: Callable[[int], NDArray[np.bool_]]) -> None:
        self._target_tiles = target_tiles

    def __call__(self, pooled: Pooled, rows: Sequence[int]) -> Tensor | None:
        """(B,) from 0 to 1; None of a pooling that does not weigh locations."""
        if pooled.weights is None:
            return None
        tiles = np.stack([self._target_tiles(row) for row in rows])
        return share_on_tiles(pooled.weights.float().cpu(), torch.from_numpy(tiles))
