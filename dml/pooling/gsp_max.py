"""Generalized sum pooling plus maximum, for the conventional protocol."""

from __future__ import annotations

from torch import Tensor

from dml.pooling.gap import as_locations
from dml.pooling.gsp import GeneralizedSumPooling
from dml.types import Pooled

__all__ = ["GeneralizedSumMaxPooling"]


# Not final, as classes otherwise are: it is the same layer with one more term, and its prototypes keep their name.
class GeneralizedSumMaxPooling(GeneralizedSumPooling):
    """``vector = Σ_i w_i/(N μ)·f_i + max_i f_i``: the mean of average-and-max pooling, replaced.

    The prototypes live among the features of the backbone, so that a transport ratio of 1 is `gap_max` exactly.
    Attributes and weights are those of the sum. Arguments and errors as in `GeneralizedSumPooling`.
    """

    pools_embedded = False

    def forward(self, features: Tensor) -> Pooled:
        pooled = super().forward(features)
        return pooled._replace(vectors=pooled.vectors + as_locations(features, self.out_channels).amax(2))
