"""WELDON pooling: the highest and the lowest responses of each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.modes import at_least_float32
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["WeldonPooling"]


class WeldonPooling(nn.Module):
    """``vector = mean of the k highest f_i + mean of the k lowest f_i``, channel by channel.

    The lowest are evidence against: published for responses that may be negative, after a ReLU they add little.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and as weights (B, N) how often a location is among the 2k of a channel, as a share; which of equal responses
    count is left open. Weights carry no gradient.

    in_channels: C, the channels of the features.
    k:           a whole number of locations from 1 on, at most all of them, or a share of them in (0, 1], rounded,
                 at least one: 3 is three locations, 0.3 three in ten, 1.0 all, which is twice the average.

    Raises InputError if k is neither or if the features do not fit `in_channels`.
    Source: Durand, Thome, Cord, "WELDON: Weakly Supervised Learning of Deep Convolutional Neural Networks", CVPR 2016.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, k: int | float) -> None:
        super().__init__()
        number, share = isinstance(k, int) and k >= 1, isinstance(k, float) and 0 < k <= 1
        if isinstance(k, bool) or not (number or share):
            raise InputError(
                f"pooling.k={k}: give a whole number of locations from 1 on, or a share of them above 0 and at "
                "most 1.0, with a decimal point"
            )
        self.out_channels = in_channels
        self.k = k

    def forward(self, features: Tensor) -> Pooled:
        locations = as_locations(features, self.out_channels)
        k = self._count(locations.shape[2])
        highest, lowest = locations.topk(k, dim=2), locations.topk(k, dim=2, largest=False)
        vectors = at_least_float32(highest.values).mean(2) + at_least_float32(lowest.values).mean(2)
        chosen = torch.cat([highest.indices, lowest.indices], 2).flatten(1)  # (B, 2·C·k)
        ones = torch.ones_like(chosen, dtype=vectors.dtype)
        counts = vectors.new_zeros(locations.shape[0], locations.shape[2]).scatter_add(1, chosen, ones)
        return Pooled(vectors.to(features.dtype), None, counts / chosen.shape[1])

    def _count(self, locations: int) -> int:
        return min(self.k, locations) if isinstance(self.k, int) else max(1, round(self.k * locations))
