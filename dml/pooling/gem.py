"""Generalized mean pooling: between average and maximum by a learned exponent."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.errors import InputError
from dml.modes import at_least_float32, full_precision
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["GeneralizedMeanPooling"]

SMALLEST_FEATURE = 1e-6  # the root has no gradient at 0
LEARNED = ("none", "shared", "per_channel")


class GeneralizedMeanPooling(nn.Module):
    """``vector = (mean_i f_i^p)^(1/p)``, channel by channel, on features that are at least 1e-6.

    A learned exponent is ``p = 1 + softplus(θ)``: it cannot leave the range in which the result is a mean between
    average and maximum, and other than a clamped one it never loses its gradient.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and weights (B, N) in float32 or better: the mean over channels of ``f_i^p / Σ_k f_k^p``, the part of the mean that
    a location brings, so not uniform for p = 1 either.

    in_channels:   C, the channels of the features.
    power:         p ≥ 1, where it starts; 1 is average pooling of the clamped features.
    learned_power: "none" keeps it, "shared" learns one for all channels, "per_channel" one for each; a learned one
                   starts above 1, because there softplus has no inverse.

    Raises InputError if a setting is out of range or if the features do not fit `in_channels`.
    Source: Radenović, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, power: float, learned_power: str) -> None:
        super().__init__()
        if learned_power not in LEARNED:
            raise InputError(f"pooling.learned_power={learned_power!r} is unknown; choose one of {LEARNED}")
        learned = learned_power != "none"
        if not 1 <= power < math.inf or (learned and power == 1):
            raise InputError(
                f"pooling.power={power}: give 1 or more, and more than 1 to learn it; published with 3, "
                "1 is average pooling"
            )
        self.out_channels = in_channels
        self.fixed_power = None if learned else power
        if learned:
            excess = power - 1
            start = excess + math.log(-math.expm1(-excess))  # the inverse of softplus
            exponents = in_channels if learned_power == "per_channel" else 1
            self.power_parameter = nn.Parameter(torch.full((exponents,), start))

    @property
    def power(self) -> float | Tensor:
        """The exponent: a number, or a tensor (1,) or (C,) while it is learned."""
        return 1 + F.softplus(self.power_parameter) if self.fixed_power is None else self.fixed_power

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            locations = at_least_float32(as_locations(features, self.out_channels))
            logs = F.threshold(locations, SMALLEST_FEATURE, SMALLEST_FEATURE).log()
            largest = logs.amax(2, keepdim=True).detach()  # a large p would overflow; it cancels
            power = self.power
            by_location = power.unsqueeze(1) if isinstance(power, Tensor) else power
            terms = (
                by_location * (logs - largest)
            ).exp()  # (f / max f)^p, (B, C, N); pow takes twice as long
            total = terms.sum(2)  # between 1 and N
            vectors = ((total / terms.shape[2]).log() / power + largest.squeeze(2)).exp()
            shares = (self.out_channels * total).reciprocal().unsqueeze(1)
            weights = (shares @ terms).squeeze(1)
        return Pooled(vectors.to(features.dtype), None, weights)
