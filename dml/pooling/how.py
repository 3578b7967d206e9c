"""Norm attention, as in HOW: a location counts by the length of its descriptor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.modes import at_least_float32, full_precision
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["NormAttentionPooling"]

SMALLEST_SQUARE = 1e-24  # of a norm: locations without any response count alike, and the root has a gradient


class NormAttentionPooling(nn.Module):
    """``vector = Σ_i ‖f_i‖ f̃_i / Σ_i ‖f_i‖``, with f̃ the features or their mean over the 3 × 3 around each location.

    What HOW does between smoothing and sum, a whitening of each local descriptor to fewer channels, is no pooling: as
    a linear map it changes places with the sum, and here it is the linear map that follows.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and weights (B, N) in float32 or better with ``vector = Σ_i weights_i f_i``, the smoothing included.

    in_channels: C, the channels of the features.
    smoothing:   average over neighbours inside the map, as published; tokens have no known neighbours and stay as
                 they are.

    Raises InputError if the features do not fit `in_channels`.
    Source: Tolias, Jenicek, Chum, "Learning and Aggregating Deep Local Descriptors for Instance-Level Recognition",
    ECCV 2020.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, smoothing: bool) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.smoothing = smoothing

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            locations = at_least_float32(as_locations(features, self.out_channels))
            attention = locations.square().sum(1).clamp_min(SMALLEST_SQUARE).sqrt()  # (B, N)
            if self.smoothing and features.ndim == 4:
                attention = _spread_to_neighbours(attention.reshape(-1, *features.shape[2:])).flatten(1)
            weights = attention / attention.sum(1, keepdim=True)
            # a row on the left: on a CPU half the time of a column on the right, or less
            vectors = (weights.unsqueeze(1) @ locations.mT).squeeze(1)
        return Pooled(vectors.to(features.dtype), None, weights)


def _spread_to_neighbours(attention: Tensor) -> Tensor:
    """(B, H, W) -> (B, H, W): each location hands equal parts to itself and its neighbours inside the map.

    The transpose of the smoothing: Σ_i a_i f̃_i = Σ_j b_j f_j, one channel to smooth instead of C.
    """
    neighbours = F.avg_pool2d(torch.ones_like(attention), 3, stride=1, padding=1)  # in ninths
    return F.avg_pool2d(attention / neighbours, 3, stride=1, padding=1)
