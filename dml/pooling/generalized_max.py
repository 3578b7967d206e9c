"""Generalized max pooling: every location is equally similar to the vector, however often its like occurs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.regression import ridge_dual
from dml.modes import at_least_float32, full_precision
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["GeneralizedMaxPooling"]

SMALLEST_RIDGE = (
    1e-4  # float32 then gives vectors to 0.4 % for up to 784 locations, and at 1e-5 not always a number
)
SMALLEST_LENGTH = 1e-12  # of the mean location; an empty map has no scale


class GeneralizedMaxPooling(nn.Module):
    """``vector = Φ α`` with ``(ΦᵀΦ/s + λ I) α = 1``, Φ the locations (C, N), s the mean of their squared lengths.

    It is s times the published vector with the ridge λ·s: so λ means the same whatever the scale of the features, and
    the vector keeps their unit. λ → ∞ has the direction of average pooling; as λ → 0 the similarities ⟨f_i, vector⟩
    become equal, as far as there are channels for it.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and weights ``|α| / Σ|α|`` (B, N) in float32 or better: a coefficient is negative where the others overshoot.
    Gradients are first order only.

    in_channels: C, the channels of the features.
    ridge:       λ ≥ 1e-4.

    Raises InputError if λ is out of range or if the features do not fit `in_channels`.
    Source: Murray, Perronnin, "Generalized Max Pooling", CVPR 2014, the dual form.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, ridge: float) -> None:
        super().__init__()
        if not SMALLEST_RIDGE <= ridge < math.inf:
            raise InputError(
                f"pooling.ridge={ridge}: give a finite number from {SMALLEST_RIDGE} on, in units of the mean squared "
                "length of a location; below, float32 cannot solve for it, and large ones approach average pooling"
            )
        self.out_channels = in_channels
        self.ridge = ridge

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            locations = at_least_float32(as_locations(features, self.out_channels))
            norm = torch.linalg.vector_norm(locations, dim=(1, 2), keepdim=True)
            length = (norm / math.sqrt(locations.shape[2])).clamp_min(SMALLEST_LENGTH)
            coefficients = ridge_dual(locations / length, ridge=self.ridge)
            # a row on the left: on a CPU half the time of a column on the right, or less
            vectors = (coefficients.unsqueeze(1) @ locations.mT).squeeze(1)
            weights = coefficients.abs() / coefficients.abs().sum(1, keepdim=True)
        return Pooled(vectors.to(features.dtype), None, weights)
