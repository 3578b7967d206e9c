"""Second-order spatial attention, in which each location looks at all others, and generalized mean pooling."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.pooling.gem import GeneralizedMeanPooling
from dml.types import Pooled

__all__ = ["SOLARPooling"]


class SOLARPooling(nn.Module):
    """``vector = (mean_i g_i^p)^(1/p)``, channel by channel, of features g that attend to each other.

        g_i = f_i + V Σ_k a_ik h(f_k),    a_ik = softmax_k(⟨q(f_i), k(f_k)⟩ / √c),    c = C / reduction

    h, q and k are linear maps to c channels. V, linear too, starts at zero, so that training starts from GeM of the
    features. q and k are followed by layer normalisation and a ReLU; published is BatchNorm and a ReLU, which would
    tie the vector of an image to its batch and to how the batch is cut over processes.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and weights (B, N) in float32 or better: the mean over channels of the shares g_i^p / Σ_k g_k^p. They are those
    of the features g, which hold something of every location.

    in_channels: C, the channels of the features.
    reduction: as above; c is at least 1.
    power:     p > 1 at the start of training; learned, one for all channels.

    Raises InputError if a setting is out of range or the channels are not `in_channels`.
    Source: Ng, Balntas, Tian, Mikolajczyk, "SOLAR: Second-Order Loss and Attention for Image Retrieval", ECCV 2020;
    Radenović, Tolias, Chum 2018 for GeM.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, reduction: int, power: float) -> None:
        super().__init__()
        check_counts(reduction=reduction)
        self.out_channels = in_channels
        inner = max(1, in_channels // reduction)
        self.query = nn.Sequential(nn.Linear(in_channels, inner), nn.LayerNorm(inner), nn.ReLU())
        self.key = nn.Sequential(nn.Linear(in_channels, inner), nn.LayerNorm(inner), nn.ReLU())
        self.value = nn.Linear(in_channels, inner)
        self.out = nn.Linear(inner, in_channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.mean = GeneralizedMeanPooling(in_channels, power=power, learned_power="shared")

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            tokens = at_least_float32(as_locations(features, self.out_channels)).mT  # (B, N, C)
            refined = tokens + self.out(self._attention(tokens) @ self.value(tokens))
            pooled: Pooled = self.mean(refined)
        return pooled.with_vectors(pooled.vectors.to(features.dtype))

    def _attention(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, N), rows sum to 1."""
        query, key = self.query(tokens), self.key(tokens)
        attention: Tensor = (query @ key.mT / math.sqrt(query.shape[2])).softmax(2)
        return attention
