"""What the losses share that rank the batch for each of its images."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mean_by_query", "positives_and_rivals"]


def positives_and_rivals(labels: Tensor, ref_labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which references are of the class of each query, and which are ranked for it, both (B, R) bool.

    Without ``ref_labels`` the batch is its own set of references, and a query is none for itself.
    """
    positive = labels.unsqueeze(1) == (labels if ref_labels is None else ref_labels)
    ranked = torch.ones_like(positive)
    if ref_labels is None:
        ranked.fill_diagonal_(False)
    return positive & ranked, ranked


def mean_by_query(values: Tensor, queries: Tensor) -> Tensor:
    """Mean over the queries of the mean of the values of each; ``queries`` (P,) says whose each value is."""
    _, query, counts = torch.unique(queries, return_inverse=True, return_counts=True)
    mean: Tensor = (values / counts[query]).sum() / len(counts)
    return mean
