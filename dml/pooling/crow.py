"""Cross-dimensional weighting: strong locations and rare channels count more."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.modes import at_least_float32, full_precision
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["CrossDimensionalWeighting"]

SMALLEST_NORM = 1e-12  # of the summed responses; an empty map has no direction
SMALLEST_SHARE = 1e-12  # of a location in that norm; the root has no gradient at 0


class CrossDimensionalWeighting(nn.Module):
    """Sum over locations, weighted by the strength of the location and the rarity of the channel.

        vector_k = I_k Σ_i S_i f_ik,    S = sqrt(s / ‖s‖) with s_i = Σ_k f_ik,
        I_k = log( (C ε + Σ_h Q_h) / (ε + Q_k) ) with Q_k the share of the locations at which f_ik > 0

    Features below 0 count as 0: both weights are defined for responses after a ReLU. The whitening that was published
    after it is left to the linear map.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and weights ``S / Σ S`` (B, N) in float32 or better. The channel weights are counts, so they pass no gradient.

    in_channels: C, the channels of the features.
    epsilon:     ε > 0, in units of a share of the locations.

    Raises InputError if ε is out of range or if the features do not fit `in_channels`.
    Source: Kalantidis, Mellina, Osindero, "Cross-dimensional Weighting for Aggregated Deep Convolutional Features",
    ECCV Workshops 2016.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, epsilon: float) -> None:
        super().__init__()
        if not 0 < epsilon < math.inf:
            raise InputError(
                f"pooling.epsilon={epsilon}: give a small number above 0, such as 1e-6; it bounds the weight of "
                "a channel that never responds"
            )
        self.out_channels = in_channels
        self.epsilon = epsilon

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            locations = at_least_float32(as_locations(features, self.out_channels)).relu()
            strength = _location_weights(locations)
            # a row on the left: on a CPU half the time of a column on the right, or less
            sums = (strength.unsqueeze(1) @ locations.mT).squeeze(1)
            vectors = self._channel_weights(locations) * sums
            weights = strength / strength.sum(1, keepdim=True)
        return Pooled(vectors.to(features.dtype), None, weights)

    def _channel_weights(self, locations: Tensor) -> Tensor:
        active = locations.detach().sign().mean(2) + self.epsilon  # ε + Q, (B, C)
        return (active.sum(1, keepdim=True) / active).log()


def _location_weights(locations: Tensor) -> Tensor:
    summed = locations.sum(1)  # (B, N)
    norm: Tensor = torch.linalg.vector_norm(summed, dim=1, keepdim=True)
    return (summed / norm.clamp_min(SMALLEST_NORM)).clamp_min(SMALLEST_SHARE).sqrt()
