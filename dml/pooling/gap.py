"""Global average pooling, the baseline that weighs every location alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.types import Pooled

__all__ = ["GlobalAveragePooling", "as_locations"]


def as_locations(features: Tensor, channels: int) -> Tensor:
    """View a map (B, C, H, W) or tokens (B, N, C) as (B, C, N), without a copy of a contiguous map.

    Raises InputError if the shape is neither, or if the channels are not as announced.
    """
    if features.ndim == 4 and features.shape[1] == channels:
        return features.flatten(2)
    if features.ndim == 3 and features.shape[2] == channels:
        return features.mT
    raise InputError(
        f"features have shape {tuple(features.shape)}; expected a map (batch, {channels}, height, width) or "
        f"tokens (batch, locations, {channels}). Build the pooling with in_channels equal to the channels of "
        "the layer before it."
    )


class GlobalAveragePooling(nn.Module):
    """Mean over locations: ``vector = mean_i f_i``.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no
    attributes, and the uniform weights 1/N, (B, N), in float32 or better.
    Raises InputError if the channels are not `in_channels`.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, features: Tensor) -> Pooled:
        locations = as_locations(features, self.out_channels)
        batch, _, count = locations.shape
        dtype = torch.promote_types(features.dtype, torch.float32)
        weights = features.new_full((1, 1), 1 / count, dtype=dtype).expand(batch, count)
        return Pooled(locations.mean(2), None, weights)
