"""Average plus maximum over locations, the baseline of the conventional protocol."""

from __future__ import annotations

from torch import Tensor, nn

from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["GlobalAverageMaxPooling"]


class GlobalAverageMaxPooling(nn.Module):
    """``vector = mean_i f_i + max_i f_i``, the maximum channel by channel.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and no weights: each channel takes its maximum from another location.
    Raises InputError if the channels are not `in_channels`.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, features: Tensor) -> Pooled:
        locations = as_locations(features, self.out_channels)
        return Pooled(locations.mean(2) + locations.amax(2))
