"""Ranks by similarity that have a gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["CHUNK", "soft_ranks"]

CHUNK = 2**22
"""Comparisons held at a time: 16 MiB in float32. It changes no number."""


def soft_ranks(
    similarity: Tensor,
    queries: Tensor,
    items: Tensor,
    *,
    among: Tensor,
    temperature: float,
    chunk: int = CHUNK,
) -> Tensor:
    """Rank of an item by its similarity to a query, a sigmoid in place of each comparison.

        r(q, x) = 1 + Σ_{z ∈ among(q), z ≠ x} σ((s_qz − s_qx) / temperature)

    Comparisons are formed some pairs at a time and formed again in the backward pass, so that memory is that of
    ``similarity`` and of one chunk, not (pairs, R).

    Args:
        similarity: (Q, R).
        queries, items: (P,) int64 rows and columns, the pairs whose rank is wanted.
        among: (Q, R) bool, the items that are ranked.
        temperature: τ > 0.
        chunk: comparisons held at a time.

    Returns:
        (P,) in [1, R].
    """

    def ranks(similarity: Tensor, queries: Tensor, items: Tensor) -> Tensor:
        own = similarity[queries, items].unsqueeze(1)
        ahead = torch.sigmoid((similarity[queries] - own) / temperature)  # (pairs of the chunk, R)
        ranked = among[queries].scatter(1, items.unsqueeze(1), False)
        return 1 + (ahead * ranked).sum(dim=1)

    pairs = max(1, chunk // similarity.shape[1])
    parts = [
        checkpoint(ranks, similarity, *part, use_reentrant=False, preserve_rng_state=False)
        for part in zip(torch.split(queries, pairs), torch.split(items, pairs), strict=True)
    ]
    return torch.cat(parts) if parts else similarity.new_zeros(0)
