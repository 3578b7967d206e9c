"""Global average pooling with attributes, so that the zero-shot loss can be used without transport."""

from __future__ import annotations

from torch import Tensor

from dml.functional.transport import prototype_cost
from dml.pooling.gap import as_locations
from dml.pooling.gsp import GeneralizedSumPooling

__all__ = ["GlobalAverageAttributesPooling"]


class GlobalAverageAttributesPooling(GeneralizedSumPooling):
    """``vector = mean_i f_i`` and ``attributes = mean_i softmax_j(−γ c_ij)``, c the distances to the prototypes.

    This is generalized sum pooling at a transport ratio of 1, which keeps everything, without its solver. Shapes,
    arguments and errors as in `GeneralizedSumPooling`, without the ratio; the weights are uniform.
    """

    def __init__(
        self, in_channels: int, *, num_prototypes: int, sharpness: float, lloyd_iterations: int
    ) -> None:
        super().__init__(
            in_channels,
            num_prototypes=num_prototypes,
            transport_ratio=1.0,
            sharpness=sharpness,
            lloyd_iterations=lloyd_iterations,
        )
        self.steepness = sharpness

    def weigh(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        locations = as_locations(features, self.out_channels)  # (B, D, N)
        cost = prototype_cost(locations.mT, self.prototypes)  # (B, N, M)
        attributes = (-self.steepness * cost).softmax(2).mean(1)
        batch, _, count = locations.shape
        weights = cost.new_full((1, 1), 1 / count).expand(batch, count)
        return locations.mean(2), attributes, weights
