"""Attentive pooling of deep local features: a small network scores each location by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["DELFPooling", "log_softplus"]

ASYMPTOTE = -36.0
"""Below it softplus is exp to the last digit of float64."""


class DELFPooling(nn.Module):
    """``vector = Σ_i α_i f_i / Σ_i α_i`` with the attention ``α_i = softplus(w₂·relu(W₁ f_i + b₁) + b₂)``.

    The published layer is the sum Σ α_i f_i; divided by Σ α_i it is a mean, so that maps of different sizes give
    vectors of one length and attention cannot grow without bound. The direction of the vector is the same.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and the weights α_i / Σ α_i, (B, N), in float32 or better.

    in_channels:     C, the channels of the features.
    hidden_channels: width of the layer W₁.

    Raises InputError if the width is below 1 or the channels are not `in_channels`.
    Source: Noh, Araujo, Sim, Weyand, Han, "Large-Scale Image Retrieval with Attentive Deep Local Features",
    ICCV 2017.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, hidden_channels: int) -> None:
        super().__init__()
        check_counts(hidden_channels=hidden_channels)
        self.out_channels = in_channels
        self.score = nn.Sequential(
            nn.Linear(in_channels, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, 1)
        )

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            tokens = at_least_float32(as_locations(features, self.out_channels)).mT  # (B, N, C)
            # as a softmax: all α of an image may be smaller than any float
            weights = log_softplus(self.score(tokens).squeeze(2)).softmax(1)
            vectors = torch.einsum("bn,bnc->bc", weights, tokens)
        return Pooled(vectors.to(features.dtype), None, weights)


def log_softplus(scores: Tensor) -> Tensor:
    """``log log(1 + exp(s))``, also where softplus itself is 0 in floating point."""
    return torch.where(scores <= ASYMPTOTE, scores, F.softplus(scores.clamp(min=ASYMPTOTE)).log())
