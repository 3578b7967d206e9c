"""Generalized mean pooling under the weights of generalized sum pooling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dml.errors import InputError
from dml.pooling.gsp import GeneralizedSumPooling

__all__ = ["GeneralizedSumGeMPooling", "weighted_power_mean"]

SMALLEST_FEATURE = 1e-6  # the root has no gradient at 0


class GeneralizedSumGeMPooling(GeneralizedSumPooling):
    """``vector = (Σ_i w_i/(N μ)·f_i^p)^(1/p)``, channel by channel, on features that are at least 1e-6.

    The prototypes live among the features of the backbone, which must be non-negative for the root. Attributes and
    weights are those of the sum.

    in_channels: C, the channels of the features.
    power:       p ≥ 1; 1 is the weighted mean, larger ones approach the maximum.
    Other arguments and errors as in `GeneralizedSumPooling`; InputError for a power below 1.
    Source: Radenović, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018 (GeM).
    """

    pools_embedded = False

    def __init__(
        self,
        in_channels: int,
        *,
        power: float,
        num_prototypes: int,
        transport_ratio: float,
        sharpness: float | str,
        lloyd_iterations: int,
        learnable_ratio: bool = False,
        prototype_start: str = "local",
        kernel_size: int | None = None,
        effective_share: float = 0.5,
        attribute_sharpness: float | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            num_prototypes=num_prototypes,
            transport_ratio=transport_ratio,
            sharpness=sharpness,
            lloyd_iterations=lloyd_iterations,
            learnable_ratio=learnable_ratio,
            prototype_start=prototype_start,
            kernel_size=kernel_size,
            effective_share=effective_share,
            attribute_sharpness=attribute_sharpness,
        )
        if not 1 <= power < math.inf:
            raise InputError(
                f"pooling.power={power}: give 1 or more; published with 3, 1 is the weighted mean"
            )
        self.power = power

    def pool(self, locations: Tensor, weights: Tensor, summed: Tensor) -> Tensor:
        return weighted_power_mean(locations.to(weights.dtype), weights, power=self.power).to(summed.dtype)


def weighted_power_mean(locations: Tensor, weights: Tensor, *, power: float) -> Tensor:
    """``(Σ_i s_i f_i^p)^(1/p)``, channel by channel, (B, C), of locations (B, C, N) and shares s (B, N)."""
    locations = locations.clamp(min=SMALLEST_FEATURE)
    largest = locations.amax(2, keepdim=True).detach()  # a large p would overflow
    mean = torch.einsum("bcn,bn->bc", (locations / largest) ** power, weights)
    return largest.squeeze(2) * mean.clamp(min=torch.finfo(mean.dtype).tiny) ** (1 / power)
