"""Average pooling whose channels are scaled by an attention that sees their covariance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import GlobalAveragePooling, as_locations
from dml.types import Pooled

__all__ = ["GSoPPooling"]


class GSoPPooling(nn.Module):
    """``vector = s ⊙ mean_i f_i`` with one scale per channel, read from second-order statistics.

        r_i = relu(norm(W f_i)),   Σ = mean_i (r_i − r̄)(r_i − r̄)ᵀ,   s = σ(U φ(rows(norm(Σ))))

    W reduces to d channels; rows is the row-wise convolution: each row of the covariance has filters of its own, as
    long as the row; φ is the leaky ReLU. Layer normalisation, over the channels of a location and over the covariance
    of an image, stands where BatchNorm is published, which would tie the vector of an image to its batch and to how
    the batch is cut over processes. Left out: the variant with attention over positions, for which the map must have
    one fixed size.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and the uniform weights 1/N, (B, N), in float32 or better: channels are weighed, locations are not.

    in_channels:        C, the channels of the features.
    attention_channels: d.
    row_filters:        filters for each row.
    negative_slope:     of φ, in [0, 1).

    Raises InputError if a setting is out of range or the channels are not `in_channels`.
    Source: Gao, Xie, Wang, Li, "Global Second-order Pooling Convolutional Networks", CVPR 2019.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(
        self, in_channels: int, *, attention_channels: int, row_filters: int, negative_slope: float
    ) -> None:
        super().__init__()
        check_counts(attention_channels=attention_channels, row_filters=row_filters)
        if not 0 <= negative_slope < 1:
            raise InputError(
                f"pooling.negative_slope={negative_slope}: give 0 or more, below 1; published with 0.1"
            )
        size = attention_channels
        self.out_channels = in_channels
        self.average = GlobalAveragePooling(in_channels)
        self.reduce = nn.Sequential(nn.Linear(in_channels, size), nn.LayerNorm(size), nn.ReLU())
        self.scale = nn.Sequential(
            nn.GroupNorm(1, size),  # one group: over the whole matrix
            nn.Conv1d(size, row_filters * size, kernel_size=size, groups=size),
            nn.LeakyReLU(negative_slope),
            nn.Flatten(),
            nn.Linear(row_filters * size, in_channels),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            locations = at_least_float32(as_locations(features, self.out_channels))
            scale = self.scale(_covariance(self.reduce(locations.mT)))
            pooled: Pooled = self.average(locations.mT)
        return pooled.with_vectors((scale * pooled.vectors).to(features.dtype))


def _covariance(tokens: Tensor) -> Tensor:
    """(B, N, d) -> (B, d, d), divided by N."""
    centred = tokens - tokens.mean(1, keepdim=True)
    return torch.matmul(centred.mT, centred) / tokens.shape[1]
