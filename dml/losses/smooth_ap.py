"""Smooth average precision."""

from __future__ import annotations

from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.soft_rank import soft_ranks
from dml.losses.ranking import mean_by_query, ranked_pairs

__all__ = ["SmoothAPLoss"]


class SmoothAPLoss(nn.Module):
    """One minus average precision, with a sigmoid in place of each comparison of two similarities.

        r(q, x among S) = 1 + Σ_{z ∈ S, z ≠ x} σ((s_qz − s_qx) / τ)
        L = mean_q (1 − 1/|P_q| Σ_{x ∈ P_q} r(q, x among P_q) / r(q, x among all))

    Every image of the batch is the query of all others; P_q are those of its class. Queries without any are left out.
    The authors' code counts the query among its own positives. Pytorch-metric-learning forms P_q from the wrong images
    unless a batch has as many classes as images of each, and asks for as many images of every class.

    Args:
        temperature: τ > 0; published with 0.01.

    Shapes:
        vectors (B, D) unit, labels (B,) int64 -> scalar in [0, 1]; 0 if no query has a positive. With ref_emb (R, D)
        and ref_labels (R,), such as those of a memory, these are ranked instead of the batch.

    Raises:
        InputError: a temperature that is not above 0.

    Source: Brown, Xie, Kalogeiton, Zisserman, "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval",
    ECCV 2020.
    """

    def __init__(self, *, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"loss.temperature={temperature} must be above 0; published with 0.01")
        self.temperature = temperature

    def forward(
        self,
        vectors: Tensor,
        labels: Tensor,
        *,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        similarity, queries, positives, is_positive, is_ranked = ranked_pairs(
            vectors, labels, ref_emb, ref_labels
        )
        if not len(queries):
            return 0 * vectors.sum()
        among_positives, among_all = (
            soft_ranks(similarity, queries, positives, among=among, temperature=self.temperature)
            for among in (is_positive, is_ranked)
        )
        return 1 - mean_by_query(among_positives / among_all, queries)
