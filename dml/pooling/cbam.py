"""Average pooling behind a convolutional block attention module: which channels, then which locations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["CBAMPooling", "most_square_grid"]


class CBAMPooling(nn.Module):
    """Mean over locations of features that were refined by channel and by spatial attention.

        a = σ(MLP(mean_i f_i) + MLP(max_i f_i)),         g_i = a ⊙ f_i
        s = σ(conv([mean_c g; max_c g])),                vector = mean_i s_i g_i

    The MLP is shared and has one hidden layer; the convolution is square, zero-padded, and has a bias, but, as in
    the paper's formulas, no BatchNorm: a vector then depends on its own image alone.

    Takes a map (B, C, H, W) or tokens (B, N, C), which are laid out row by row on the most square grid of N places;
    returns vectors (B, C) in the type of the features, no attributes, and the weights s_i / Σ s, (B, N), in float32
    or better. The order of the locations matters: the convolution looks at neighbours.

    in_channels: C, the channels of the features.
    reduction:   the hidden layer has C / reduction channels, at least one.
    kernel_size: side of the convolution, odd.

    Raises InputError if a setting is out of range or the channels are not `in_channels`.
    Source: Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module", ECCV 2018, equations 1 to 3.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, reduction: int, kernel_size: int) -> None:
        super().__init__()
        check_counts(reduction=reduction, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise InputError(f"pooling.kernel_size={kernel_size}: give an odd side; 7 is published")
        self.out_channels = in_channels
        hidden = max(1, in_channels // reduction)
        self.mlp = nn.Sequential(nn.Linear(in_channels, hidden), nn.ReLU(), nn.Linear(hidden, in_channels))
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, features: Tensor) -> Pooled:
        locations = as_locations(features, self.out_channels)
        grid = tuple(features.shape[2:]) if features.ndim == 4 else most_square_grid(locations.shape[2])
        with full_precision(features):
            locations = at_least_float32(locations)  # (B, C, N)
            scale = (self.mlp(locations.mean(2)) + self.mlp(locations.amax(2))).sigmoid()
            refined = locations * scale.unsqueeze(2)
            planes = torch.stack([refined.mean(1), refined.amax(1)], 1)  # (B, 2, N)
            scores = self.spatial(planes.view(-1, 2, *grid)).flatten(1)  # (B, N)
            vectors = torch.einsum("bn,bcn->bc", scores.sigmoid(), refined) / scores.shape[1]
            weights = nn.functional.logsigmoid(scores).softmax(1)  # all sigmoids of an image may be 0
        return Pooled(vectors.to(features.dtype), None, weights)


def most_square_grid(count: int) -> tuple[int, int]:
    """Height and width with ``height · width = count``, the height being the largest divisor up to √count."""
    height = next(side for side in range(math.isqrt(count), 0, -1) if count % side == 0)
    return height, count // height
