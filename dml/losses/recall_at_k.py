"""The surrogate of recall@k."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.soft_rank import soft_ranks
from dml.losses.ranking import mean_by_query, ranked_pairs

__all__ = ["RecallAtKLoss"]


class RecallAtKLoss(nn.Module):
    """One minus the share of positives among the first k, averaged over queries and over several k.

        r(q, x) = 1 + Σ_{z ≠ x} σ((s_qz − s_qx) / τ₂)
        L = mean_k mean_q (1 − 1/|P_q| Σ_{x ∈ P_q} σ((k − r(q, x)) / τ₁))

    Every image of the batch is the query of all others; P_q are those of its class. Queries without any are left out.
    The authors' code differs: it counts the query among those ahead, and divides by min(k, |P_q|) instead of |P_q|.

    Args:
        ranks: the k.
        rank_temperature: τ₁ > 0; published with 1.
        similarity_temperature: τ₂ > 0; published with 0.01.

    Shapes:
        vectors (B, D) unit, labels (B,) int64 -> scalar in [0, 1]; 0 if no query has a positive. With ref_emb (R, D)
        and ref_labels (R,), such as those of a memory, these are ranked instead of the batch.

    Raises:
        InputError: a temperature that is not above 0, or no k, or one that is no whole number of at least 1.

    Source: Patel, Tolias, Matas, "Recall@k Surrogate Loss with Large Batches and Similarity Mixup", CVPR 2022; without
    the mixup.
    """

    def __init__(
        self, *, ranks: Sequence[int], rank_temperature: float, similarity_temperature: float
    ) -> None:
        super().__init__()
        if not ranks or not all(isinstance(k, int) and k >= 1 for k in ranks):
            raise InputError(f"loss.ranks={list(ranks)}: give one or more whole ranks of at least 1")
        if not rank_temperature > 0 or not similarity_temperature > 0:
            raise InputError(
                f"loss.rank_temperature={rank_temperature} and loss.similarity_temperature={similarity_temperature} "
                "must be above 0"
            )
        self.ranks, self.rank_temperature = tuple(ranks), rank_temperature
        self.similarity_temperature = similarity_temperature

    def forward(
        self,
        vectors: Tensor,
        labels: Tensor,
        *,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        pairs = ranked_pairs(vectors, labels, ref_emb, ref_labels)
        if not len(pairs.queries):
            return 0 * vectors.sum()
        rank = soft_ranks(
            pairs.similarity,
            pairs.queries,
            pairs.positives,
            among=pairs.is_ranked,
            temperature=self.similarity_temperature,
        )
        k = torch.tensor(self.ranks, device=rank.device)
        found = torch.sigmoid((k - rank.unsqueeze(1)) / self.rank_temperature).mean(dim=1)
        return 1 - mean_by_query(found, pairs.queries)
