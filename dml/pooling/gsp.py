"""Generalized sum pooling: keep the share of locations that is nearest to learned prototypes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.functional.clustering import k_means
from dml.functional.transport import (
    TransportPlan,
    partial_transport,
    project_to_ball,
    prototype_cost,
    transport_pool,
)
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["GeneralizedSumPooling"]


class GeneralizedSumPooling(nn.Module):
    """Mean of the local features, weighted by how much of each an optimal transport plan keeps.

        vector = Σ_i w_i/(N μ)·f_i,    attributes_j = Σ_i π_ij / μ,    weights_i = w_i/(N μ)

    with the plan π, the gates w and the transport ratio μ of `dml.functional.transport`.

    Takes embedded features, as a map (B, D, H, W) or tokens (B, N, D); returns vectors (B, D) in the type
    of the features, attributes (B, M) and weights (B, N) in float32 or better.

    in_channels:     D, the channels of the features.
    num_prototypes:  M.
    transport_ratio: μ in (0, 1], the share of the mass that is kept; 1 is global average pooling.
    sharpness:       γ > 0, the inverse of the entropic regularisation.
    learnable_ratio: train μ as a logit, starting from `transport_ratio`, which must then be below 1.
    lloyd_iterations: rounds of k-means in `initialise_prototypes`.

    Raises ValueError if a setting is out of range or if the features do not fit `in_channels`.
    Source: Gürbüz, Şener, Alatan, "Generalized Sum Pooling for Metric Learning", ICCV 2023.
    """

    pools_embedded = True
    has_attributes = True

    def __init__(
        self,
        in_channels: int,
        *,
        num_prototypes: int,
        transport_ratio: float,
        sharpness: float,
        lloyd_iterations: int,
        learnable_ratio: bool = False,
    ) -> None:
        super().__init__()
        _check_settings(num_prototypes, transport_ratio, sharpness, lloyd_iterations, learnable_ratio)
        self.out_channels = in_channels
        self.sharpness = sharpness
        self.lloyd_iterations = lloyd_iterations
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, in_channels) / math.sqrt(in_channels))
        self.fixed_ratio = None if learnable_ratio else transport_ratio
        if learnable_ratio:
            self.ratio_logit = nn.Parameter(torch.tensor(transport_ratio).logit())

    @property
    def transport_ratio(self) -> float | Tensor:
        """The share of the mass that is kept: a number, or a scalar tensor while it is learned."""
        return self.ratio_logit.sigmoid() if self.fixed_ratio is None else self.fixed_ratio

    def forward(self, features: Tensor) -> Pooled:
        locations = as_locations(features, self.out_channels)  # (B, D, N)
        vectors, attributes, weights = transport_pool(
            locations, self.prototypes, ratio=self.transport_ratio, sharpness=self.sharpness
        )
        return Pooled(vectors.to(features.dtype), attributes, weights)

    def plan(self, features: Tensor) -> TransportPlan:
        """The plan that `forward` pools the same features by, prototype by prototype."""
        cost = prototype_cost(as_locations(features, self.out_channels).mT, self.prototypes)
        return partial_transport(cost, ratio=self.transport_ratio, sharpness=self.sharpness)

    @torch.no_grad()
    def initialise_prototypes(self, features: Tensor, *, generator: torch.Generator) -> int:
        """Write the centres of a k-means of local features into the prototypes, in place.

        features: a map (B, D, H, W) or tokens (B, N, D), embedded, from the first batches.
        k-means++ seeding and then Lloyd's rounds: a lone outlier is worth little to a mean, other than to
        greedy k-center, which seeks outliers. The same generator state gives the same prototypes.
        Returns how many prototypes were placed: with fewer distinct local features than prototypes, the
        others keep their random start. Raises ValueError on features that are not finite or do not fit.
        """
        points = as_locations(features, self.out_channels).mT.flatten(0, 1).to(self.prototypes)  # (B·N, D)
        points = project_to_ball(points)
        centres = k_means(points, len(self.prototypes), iterations=self.lloyd_iterations, generator=generator)
        self.prototypes[: len(centres)].copy_(centres)
        return len(centres)


def _check_settings(
    num_prototypes: int, transport_ratio: float, sharpness: float, lloyd_iterations: int, learnable: bool
) -> None:
    if num_prototypes < 1:
        raise ValueError(
            f"num_prototypes is {num_prototypes}; expected 1 or more. The paper uses 64 and 128."
        )
    if not 0 < transport_ratio <= 1 or (learnable and transport_ratio == 1):
        raise ValueError(
            f"transport_ratio is {transport_ratio}; expected above 0 and at most 1, and below 1 to be "
            "learned. The paper uses 0.3; 1 is global average pooling."
        )
    if not 0 < sharpness < math.inf:
        raise ValueError(
            f"sharpness is {sharpness}; expected a finite number above 0. The paper uses 5 and 0.5."
        )
    if lloyd_iterations < 0:
        raise ValueError(f"lloyd_iterations is {lloyd_iterations}; expected 0 or more; 10 is plenty.")
