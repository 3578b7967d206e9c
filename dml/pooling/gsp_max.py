"""Generalized sum pooling plus maximum, for the conventional protocol."""

from __future__ import annotations

from torch import Tensor

from dml.pooling.gsp import GeneralizedSumPooling

__all__ = ["GeneralizedSumMaxPooling"]


class GeneralizedSumMaxPooling(GeneralizedSumPooling):
    """``vector = Σ_i w_i/(N μ)·f_i + max_i f_i``: the mean of average-and-max pooling, replaced.

    The prototypes live among the features of the backbone, so that a transport ratio of 1 is `gap_max` exactly.
    Attributes and weights are those of the sum. Arguments and errors as in `GeneralizedSumPooling`.
    """

    pools_embedded = False

    def pool(self, locations: Tensor, weights: Tensor, summed: Tensor) -> Tensor:
        return summed + locations.amax(2)
