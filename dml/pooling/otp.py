"""Optimal transport pooling: all locations are shared out among references, each of which pools its part."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.clustering import k_means
from dml.functional.sinkhorn import balanced_transport
from dml.functional.transport import project_to_ball, prototype_cost
from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["OptimalTransportPooling"]


class OptimalTransportPooling(nn.Module):
    """``vector = √M · (Σ_i π_i1 f_i, ..., Σ_i π_iM f_i)``, side by side, with the balanced plan π.

    The plan moves mass 1/N from each location and 1/M to each prototype (`dml.functional.sinkhorn`), at the cost that
    `GeneralizedSumPooling` has: the two differ in the transport problem alone. Here nothing stays behind, and every
    prototype receives its share. The paper writes the cost as −κ(f_i, ω_j) with a positive definite kernel κ; for
    unit vectors and the Gaussian one that falls with the distance as well. Left out: the embedding of the f_i in the
    space of a kernel, several sets of references side by side, and the encoding of positions.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, M·C) in the type of the features, no attributes,
    which balance would make uniform, and the weights Σ_j π_ij, (B, N), in float32 or better: uniform but for what is
    missing to convergence.

    in_channels:      C, the channels of the features.
    num_prototypes:   M, the references of the paper.
    sharpness:        γ > 0, the inverse of the entropic regularisation.
    iterations:       rounds of Sinkhorn's algorithm.
    lloyd_iterations: rounds of k-means in `initialise_prototypes`.

    Raises InputError if a setting is out of range or the channels are not `in_channels`.
    Source: Mialon, Chen, d'Aspremont, Mairal, "A Trainable Optimal Transport Embedding for Feature Aggregation and
    its Relationship to Attention", ICLR 2021, section 3.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(
        self,
        in_channels: int,
        *,
        num_prototypes: int,
        sharpness: float,
        iterations: int,
        lloyd_iterations: int,
    ) -> None:
        super().__init__()
        check_counts(num_prototypes=num_prototypes, iterations=iterations, lloyd_iterations=lloyd_iterations)
        if not 0 < sharpness < math.inf:
            raise InputError(f"pooling.sharpness={sharpness}: give a finite number above 0")
        self.in_channels = in_channels
        self.out_channels = num_prototypes * in_channels
        self.sharpness, self.iterations, self.lloyd_iterations = sharpness, iterations, lloyd_iterations
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, in_channels) / math.sqrt(in_channels))

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            tokens = at_least_float32(as_locations(features, self.in_channels)).mT  # (B, N, C)
            cost = prototype_cost(tokens, self.prototypes)
            plan = balanced_transport(cost, sharpness=self.sharpness, iterations=self.iterations)
            parts = math.sqrt(len(self.prototypes)) * (plan.mT @ tokens)  # (B, M, C)
        return Pooled(parts.flatten(1).to(features.dtype), None, plan.sum(2))

    @torch.no_grad()
    def initialise_prototypes(self, features: Tensor, *, generator: torch.Generator) -> int:
        """Write the centres of a k-means of local features into the prototypes, as published, in place.

        features: a map (B, C, H, W) or tokens (B, N, C) from the first batches.
        Returns how many were placed: with fewer distinct local features than prototypes, the others keep their random
        start. Raises InputError on features that are not finite or do not fit.
        """
        points = as_locations(features, self.in_channels).mT.flatten(0, 1).to(self.prototypes)  # (B·N, C)
        points = project_to_ball(points)
        centres = k_means(points, len(self.prototypes), iterations=self.lloyd_iterations, generator=generator)
        self.prototypes[: len(centres)].copy_(centres)
        return len(centres)
