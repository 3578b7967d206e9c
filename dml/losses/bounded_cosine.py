"""The cosine, kept off ±1, for a loss that takes the angle of it."""

from __future__ import annotations

from pytorch_metric_learning.distances import CosineSimilarity
from torch import Tensor

from dml.errors import InputError

__all__ = ["BoundedCosine"]


class BoundedCosine(CosineSimilarity):  # type: ignore[misc]  # the library has no types
    """Clamps the cosine to [-bound, bound], outside of which it has no gradient.

    The angle of a vector with itself has an infinite gradient, and none at all where the cosine is rounded to more than
    1: two equal images of a class would turn the loss to NaN.

    Args:
        bound: in (0, 1).

    Raises:
        InputError: a bound outside (0, 1).
    """

    def __init__(self, *, bound: float) -> None:
        if not 0 < bound < 1:
            raise InputError(f"bound={bound} of a cosine must lie in (0, 1), such as 0.999999")
        super().__init__()
        self.bound = bound

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        cosine: Tensor = super().compute_mat(query_emb, ref_emb)
        return cosine.clamp(-self.bound, self.bound)
