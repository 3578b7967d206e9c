"""What the losses share that rank the batch for each of its images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["RankedPairs", "mean_by_query", "ranked_pairs"]


class RankedPairs(NamedTuple):
    """Every query with each of its positives, P pairs, in the ranking of its references.

    similarity: (B, R) of each query and reference.
    queries, positives: (P,) int64, row and column of each pair.
    is_positive, is_ranked: (B, R) bool, the references of a query's class, and all that are ranked for it.
    """

    similarity: Tensor
    queries: Tensor
    positives: Tensor
    is_positive: Tensor
    is_ranked: Tensor


def ranked_pairs(
    vectors: Tensor, labels: Tensor, ref_emb: Tensor | None, ref_labels: Tensor | None
) -> RankedPairs:
    """The pairs of a batch (B, D) with references (R, D).

    Without references the batch is its own set of them, and a query is none for itself.
    """
    is_positive = labels.unsqueeze(1) == (labels if ref_labels is None else ref_labels)
    is_ranked = torch.ones_like(is_positive)
    if ref_labels is None:
        is_ranked.fill_diagonal_(False)
    is_positive = is_positive & is_ranked
    queries, positives = torch.where(is_positive)
    similarity = vectors @ (vectors if ref_emb is None else ref_emb).T
    return RankedPairs(similarity, queries, positives, is_positive, is_ranked)


def mean_by_query(values: Tensor, queries: Tensor) -> Tensor:
    """Mean over the queries of the mean of the values of each; ``queries`` (P,) says whose each value is."""
    _, query, counts = torch.unique(queries, return_inverse=True, return_counts=True)
    mean: Tensor = (values / counts[query]).sum() / len(counts)
    return mean
