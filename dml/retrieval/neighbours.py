"""The nearest items of each query, for people to look at; metrics settle their ranks exactly by themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from dml.errors import InputError
from dml.retrieval.backends import Neighbours
from dml.retrieval.index import exact_search
from dml.retrieval.ranking import without_own

__all__ = ["nearest_neighbours"]


def nearest_neighbours(query: Tensor, gallery: Tensor | None, k: int, *, backend: str = "auto") -> Neighbours:
    """The k nearest of the gallery, or of the other queries if there is none: an own entry goes by its index.

    Shapes: query (Q, D), gallery (G, D). Raises InputError for a k beyond the others, and as `exact_search`.
    """
    others = len(query) - 1 if gallery is None else len(gallery)
    if not 1 <= k <= others:
        raise InputError(
            f"{k} neighbours were asked for, but each query has {others} others to find: ask for 1 to {others}"
        )
    if gallery is not None:
        return exact_search(query, gallery, k, backend=backend)
    found = exact_search(query, query, k + 1, backend=backend)
    return without_own(torch.arange(len(query), device=found.indices.device), found)
