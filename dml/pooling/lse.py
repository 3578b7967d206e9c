"""Log-sum-exp pooling: a smooth maximum whose sharpness may be learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.modes import at_least_float32, full_precision
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["LogSumExpPooling"]


class LogSumExpPooling(nn.Module):
    """``vector = (1/r)·log mean_i exp(r f_i)``, channel by channel.

    r → 0 is average pooling, r → ∞ max pooling. A learned sharpness is ``r = exp(θ)``, which stays positive and
    moves by factors: the scale of the features decides what is sharp.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and weights (B, N) in float32 or better, without gradient: the mean over channels of ``softmax_i(r f_i)``.

    in_channels:         C, the channels of the features.
    sharpness:           r > 0, where it starts.
    learnable_sharpness: train it, one for all channels.

    Raises InputError if the sharpness is out of range or if the features do not fit `in_channels`.
    Source: Pinheiro, Collobert, "From Image-level to Pixel-level Labeling with Convolutional Networks", CVPR 2015.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, sharpness: float, learnable_sharpness: bool) -> None:
        super().__init__()
        if not 0 < sharpness < math.inf:
            raise InputError(
                f"pooling.sharpness={sharpness}: give a finite number above 0; small ones approach average "
                "pooling, large ones max pooling"
            )
        self.out_channels = in_channels
        self.fixed_sharpness = None if learnable_sharpness else sharpness
        if learnable_sharpness:
            self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness)))

    @property
    def sharpness(self) -> float | Tensor:
        """r: a number, or a scalar tensor while it is learned."""
        return self.log_sharpness.exp() if self.fixed_sharpness is None else self.fixed_sharpness

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            locations = at_least_float32(as_locations(features, self.out_channels))
            largest = locations.amax(2, keepdim=True).detach()  # exp would overflow; it cancels
            scaled = self.sharpness * (locations - largest)
            # expm1 and log1p: at small r the mean of exp is near 1, and log would keep nothing of it
            vectors = largest.squeeze(2) + scaled.expm1().mean(2).log1p() / self.sharpness
            weights = scaled.detach().softmax(2).mean(1)
        return Pooled(vectors.to(features.dtype), None, weights)
