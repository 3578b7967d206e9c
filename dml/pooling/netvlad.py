"""NetVLAD: per cluster of local features, how those of the image differ from its centre."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.clustering import k_means
from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["NetVLADPooling"]

SMALLEST_LENGTH = 1e-6
"""Vectors shorter than this are divided by it instead of their length, which may be 0."""

SMALLEST_GAP = 1e-6
"""Least mean difference of squared distances that α is computed from; features that all coincide have 0."""


class NetVLADPooling(nn.Module):
    """Residuals to the prototypes under a soft assignment, normalised one by one and then together.

        a_ij = softmax_j(⟨w_j, f̂_i⟩ + b_j),    V_j = Σ_i a_ij (f̂_i − ω_j),    f̂ = f / ‖f‖
        vector = unit(unit(V_1), ..., unit(V_M))

    w, b and ω are parameters of their own; `initialise_prototypes` ties their start together, as published.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, M·C) in the type of the features, no attributes,
    and weights (B, N) in float32 or better: the mean over prototypes of the shares a_ij / Σ_k a_kj, because after
    normalisation every prototype counts alike, however many locations are assigned to it.

    in_channels:      C, the channels of the features.
    num_prototypes:   M ≥ 2, the cluster centres of the paper.
    assignment_ratio: above 1; how many times as strongly a feature is assigned to the nearest as to the second
                      nearest prototype after `initialise_prototypes`, in the geometric mean over features.
    lloyd_iterations: rounds of k-means there.

    Raises InputError if a setting is out of range or the channels are not `in_channels`.
    Source: Arandjelović, Gronat, Torii, Pajdla, Sivic, "NetVLAD: CNN Architecture for Weakly Supervised Place
    Recognition", CVPR 2016, equations 3 and 4; the start in its appendix.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(
        self, in_channels: int, *, num_prototypes: int, assignment_ratio: float, lloyd_iterations: int
    ) -> None:
        super().__init__()
        check_counts(num_prototypes=num_prototypes, lloyd_iterations=lloyd_iterations)
        if num_prototypes < 2:
            raise InputError(
                f"pooling.num_prototypes={num_prototypes}: give 2 or more; published with 64, and with "
                "one there is nothing to be assigned"
            )
        if not 1 < assignment_ratio < math.inf:
            raise InputError(
                f"pooling.assignment_ratio={assignment_ratio}: give a finite number above 1; published with 100"
            )
        self.in_channels = in_channels
        self.out_channels = num_prototypes * in_channels
        self.assignment_ratio, self.lloyd_iterations = assignment_ratio, lloyd_iterations
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, in_channels) / math.sqrt(in_channels))
        self.assignment = nn.Linear(in_channels, num_prototypes)

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            tokens = self._unit_tokens(features)  # (B, N, C)
            # shares a_ij / Σ_k a_kj: unit(V_j) is the same for them, and a sum of a_kj may be 0 in floating point
            shares = self.assignment(tokens).log_softmax(2).softmax(1)  # (B, N, M)
            residuals = F.normalize(shares.mT @ tokens - self.prototypes, dim=2, eps=SMALLEST_LENGTH)
            vectors = F.normalize(residuals.flatten(1), dim=1, eps=SMALLEST_LENGTH)
        return Pooled(vectors.to(features.dtype), None, shares.mean(2))

    @torch.no_grad()
    def initialise_prototypes(self, features: Tensor, *, generator: torch.Generator) -> int:
        """Place the prototypes by k-means of local features, and assign by distance: w_j = 2α ω_j, b_j = −α ‖ω_j‖².

        α makes `assignment_ratio` hold. All is written in place.
        features: a map (B, C, H, W) or tokens (B, N, C) from the first batches.
        Returns how many were placed: with fewer distinct local features than prototypes, the others keep their random
        start. Raises InputError on features that are not finite or do not fit.
        """
        points = self._unit_tokens(features).flatten(0, 1).to(self.prototypes)  # (B·N, C)
        centres = k_means(points, len(self.prototypes), iterations=self.lloyd_iterations, generator=generator)
        self.prototypes[: len(centres)].copy_(centres)
        first, second = torch.cdist(points, self.prototypes).square().topk(2, largest=False).values.unbind(1)
        alpha = math.log(self.assignment_ratio) / (second - first).mean().clamp_min(SMALLEST_GAP)
        self.assignment.weight.copy_(2 * alpha * self.prototypes)
        self.assignment.bias.copy_(-alpha * self.prototypes.square().sum(1))
        return len(centres)

    def _unit_tokens(self, features: Tensor) -> Tensor:
        tokens = at_least_float32(as_locations(features, self.in_channels)).mT
        return F.normalize(tokens, dim=2, eps=SMALLEST_LENGTH)
