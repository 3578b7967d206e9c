"""Global max pooling: each channel takes its largest response."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["GlobalMaxPooling"]


class GlobalMaxPooling(nn.Module):
    """``vector = max_i f_i``, channel by channel.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and as weights (B, N) the share of the channels that take their maximum from a location; of equal responses the
    first counts, in the gradient too. Weights carry no gradient.
    Raises InputError if the channels are not `in_channels`.
    Source: Tolias, Sicre, Jégou, "Particular Object Retrieval with Integral Max-Pooling of CNN Activations", ICLR 2016,
    where it is called MAC.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, features: Tensor) -> Pooled:
        locations = as_locations(features, self.out_channels)
        vectors, chosen = locations.max(2)
        ones = torch.ones_like(vectors, dtype=torch.promote_types(features.dtype, torch.float32))
        counts = ones.new_zeros(locations.shape[0], locations.shape[2]).scatter_add(1, chosen, ones)
        return Pooled(vectors, None, counts / self.out_channels)
