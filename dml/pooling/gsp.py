"""Generalized sum pooling: keep the share of locations that is nearest to learned prototypes."""

from __future__ import annotations

import math
import warnings
from typing import cast

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.clustering import greedy_k_center, k_means
from dml.functional.transport import (
    TransportPlan,
    partial_transport,
    project_to_ball,
    prototype_cost,
    transport_pool,
)
from dml.modes import at_least_float32, full_precision
from dml.pooling.gap import as_locations
from dml.pooling.sharpness import Sharpness
from dml.types import Pooled

__all__ = ["GeneralizedSumPooling"]

STARTS = ("local", "pooled", "random")


class GeneralizedSumPooling(nn.Module):
    """Mean of the local features, weighted by how much of each an optimal transport plan keeps.

        vector = Σ_i w_i/(N μ)·f_i,    attributes_j = Σ_i π_ij / μ,    weights_i = w_i/(N μ)

    with the plan π, the gates w and the transport ratio μ of `dml.functional.transport`.

    Two parts: `weigh` says how much each location counts, and `pool` makes vectors of that. A variant of this layer
    exchanges one of them; prototypes, their start and their name in a checkpoint are common.

    Takes embedded features, as a map (B, D, H, W) or tokens (B, N, D); returns vectors (B, D) in the type
    of the features, attributes (B, M) and weights (B, N) in float32 or better.

    in_channels:     D, the channels of the features.
    num_prototypes:  M.
    transport_ratio: μ in (0, 1], the share of the mass that is kept; 1 is global average pooling.
    sharpness:       γ > 0, the inverse of the entropic regularisation; or a rule of `Sharpness`, such as "auto".
    learnable_ratio: train μ as a logit, starting from `transport_ratio`, which must then be below 1.
    prototype_start: where `initialise_prototypes` takes them from: "local" features, "pooled" ones as published, or
                     "random", which leaves them.
    lloyd_iterations: rounds of k-means among local features.
    effective_share: what a rule gives the weights, between the ratio and 1.
    attribute_sharpness: of the assignment to prototypes that the attributes tell of, Σ_i s_i softmax_j(−γ' c_ij). None
                     takes γ, as published: what chooses locations sharply says of each but its nearest prototype.
    kernel_size:     None: costs are distances to the prototypes. An odd k: costs are the convolution of the features,
                     projected on the unit ball, with −prototypes (M, D, k, k); they see the neighbours of a location
                     and have no upper limit, so a long kernel sharpens. Tokens have neighbours only for k = 1.

    Raises InputError if a setting is out of range or if the features do not fit `in_channels`.
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
        sharpness: float | str,
        lloyd_iterations: int,
        learnable_ratio: bool = False,
        prototype_start: str = "local",
        kernel_size: int | None = None,
        effective_share: float = 0.5,
        attribute_sharpness: float | None = None,
    ) -> None:
        super().__init__()
        _check_settings(num_prototypes, transport_ratio, lloyd_iterations, learnable_ratio)
        _check_start(prototype_start, kernel_size)
        self.out_channels = in_channels
        self.sharpness = Sharpness(sharpness, share=effective_share, ratio=transport_ratio)
        if attribute_sharpness is not None and not 0 < attribute_sharpness < math.inf:
            raise InputError(
                f"pooling.attribute_sharpness={attribute_sharpness}: give a finite number above 0, or null for that of "
                "the weights"
            )
        self.attribute_sharpness = attribute_sharpness
        self.lloyd_iterations = lloyd_iterations
        self.prototype_start, self.kernel_size = prototype_start, kernel_size
        shape = (in_channels,) if kernel_size is None else (in_channels, kernel_size, kernel_size)
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, *shape) / math.sqrt(math.prod(shape)))
        self.fixed_ratio = None if learnable_ratio else transport_ratio
        if learnable_ratio:
            self.ratio_logit = nn.Parameter(torch.tensor(transport_ratio).logit())

    @property
    def transport_ratio(self) -> float | Tensor:
        """The share of the mass that is kept: a number, or a scalar tensor while it is learned."""
        return self.ratio_logit.sigmoid() if self.fixed_ratio is None else self.fixed_ratio

    def forward(self, features: Tensor) -> Pooled:
        summed, attributes, weights = self.weigh(features)
        locations = as_locations(features, self.out_channels)
        return Pooled(self.pool(locations, weights, summed), attributes, weights)

    def weigh(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weighted sum (B, D) in the type of the features, attributes (B, M) and weights (B, N)."""
        locations = as_locations(features, self.out_channels)  # (B, D, N)
        if self.kernel_size is None:
            summed, attributes, weights = transport_pool(
                locations, self.prototypes, ratio=self.transport_ratio, sharpness=self._sharpness(features)
            )
        else:
            plan = self.plan(features)
            attributes = plan.plan.sum(1) / self.transport_ratio
            weights = plan.gate / (plan.gate.shape[1] * self.transport_ratio)
            with full_precision(features):
                summed = (at_least_float32(locations) @ weights.unsqueeze(2)).squeeze(2)
        if self.attribute_sharpness is not None:
            with full_precision(features):
                soft = (-self.attribute_sharpness * self._cost(features)).softmax(2)
                attributes = (weights.unsqueeze(1) @ soft).squeeze(1)
        return summed.to(features.dtype), attributes, weights

    def pool(self, locations: Tensor, weights: Tensor, summed: Tensor) -> Tensor:
        """Vectors (B, D) of locations (B, D, N), their weights (B, N) and the sum (B, D), which `weigh` has anyway."""
        return summed

    def plan(self, features: Tensor) -> TransportPlan:
        """The plan that `forward` pools the same features by, prototype by prototype."""
        return partial_transport(
            self._cost(features), ratio=self.transport_ratio, sharpness=self._sharpness(features)
        )

    def _sharpness(self, features: Tensor) -> float | Tensor:
        return cast("float | Tensor", self.sharpness(lambda: self._cost(features), self.transport_ratio))

    @property
    def fits_sharpness(self) -> bool:
        """Whether the sharpness is a rule, which is fitted, and no number."""
        return self.sharpness.is_fitted

    def fit_sharpness(self, features: Tensor) -> None:
        """Let a rule choose the sharpness on whole images, once the prototypes are placed; a number stays as it is.

        features: a map (B, D, H, W) or tokens (B, N, D), embedded.
        """
        if self.sharpness.is_fitted:
            with torch.no_grad():
                self.sharpness.fit(self._cost(features), self.transport_ratio)

    def _cost(self, features: Tensor) -> Tensor:
        """(B, N, M)."""
        tokens = as_locations(features, self.out_channels).mT
        if self.kernel_size is None:
            return prototype_cost(tokens, self.prototypes)
        if features.ndim == 3 and self.kernel_size > 1:
            raise InputError(
                f"pooling.kernel_size={self.kernel_size}: tokens have no neighbours; give 1, or a backbone with a map"
            )
        with full_precision(features):
            projected = project_to_ball(at_least_float32(tokens)).mT  # (B, D, N)
            grid = features.shape[2:] if features.ndim == 4 else (projected.shape[2], 1)
            cost = -nn.functional.conv2d(
                projected.reshape(*projected.shape[:2], *grid), self.prototypes, padding=self.kernel_size // 2
            )
        return cost.flatten(2).mT

    @torch.no_grad()
    def initialise_prototypes(self, features: Tensor, *, generator: torch.Generator) -> int:
        """Write prototypes among the features of the first batches into the parameter, in place.

        features: a map (B, D, H, W) or tokens (B, N, D), embedded.
        "local": the centres of a k-means of local features, projected on the unit ball; k-means++ seeding and then
        Lloyd's rounds: a lone outlier is worth little to a mean, other than to greedy k-center, which seeks outliers.
        "pooled": greedy k-center among the averages of the images, as published. The same generator state gives the
        same prototypes.
        Returns how many prototypes were placed: with too few distinct features the others keep their random start.
        Raises InputError on features that are not finite or do not fit.
        """
        if self.prototype_start == "random":
            return 0
        locations = as_locations(features, self.out_channels).to(self.prototypes)  # (B, D, N)
        if self.prototype_start == "pooled":
            centres = greedy_k_center(project_to_ball(locations.mean(2)), len(self.prototypes))
        else:
            centres = k_means(
                project_to_ball(locations.mT.flatten(0, 1)),
                len(self.prototypes),
                iterations=self.lloyd_iterations,
                generator=generator,
            )
        self.prototypes[: len(centres)].copy_(centres)
        if len(centres) < len(self.prototypes):
            warnings.warn(
                f"{len(centres)} of {len(self.prototypes)} prototypes were placed among the {self.prototype_start} "
                "features of the first batches, which hold too few different ones; the others keep their random start: "
                "raise trainer.initialisation_batches, or lower pooling.num_prototypes",
                stacklevel=2,
            )
        return len(centres)


def _check_start(prototype_start: str, kernel_size: int | None) -> None:
    if prototype_start not in STARTS:
        raise InputError(f"pooling.prototype_start={prototype_start!r}; accepted: {', '.join(STARTS)}")
    if kernel_size is None:
        return
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"pooling.kernel_size={kernel_size}: give an odd side, or null for distances")
    if prototype_start != "random":
        raise InputError(
            f"pooling.kernel_size={kernel_size}: kernels have no place among the features; add "
            "pooling.prototype_start=random"
        )


def _check_settings(
    num_prototypes: int, transport_ratio: float, lloyd_iterations: int, learnable: bool
) -> None:
    if num_prototypes < 1:
        raise InputError(
            f"num_prototypes is {num_prototypes}; expected 1 or more. The paper uses 64 and 128."
        )
    if not 0 < transport_ratio <= 1 or (learnable and transport_ratio == 1):
        raise InputError(
            f"transport_ratio is {transport_ratio}; expected above 0 and at most 1, and below 1 to be "
            "learned. The paper uses 0.3; 1 is global average pooling."
        )
    if lloyd_iterations < 0:
        raise InputError(f"lloyd_iterations is {lloyd_iterations}; expected 0 or more; 10 is plenty.")
