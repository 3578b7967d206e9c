"""Exact search for the nearest embeddings, and what embeddings must be to be searched.

Axis letters: Q queries, G gallery items, D embedding dimension, k neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dml.errors import InputError, WrongTypeError
from dml.retrieval.backends import BACKENDS, Neighbours, choose_backend

__all__ = ["CHUNK_SIZE", "Array", "check_search", "device_of", "exact_search", "float32_embeddings"]

LONGEST = 2.0**63  # of two such vectors the product still is a float32
CHUNK_SIZE = 4096  # queries at a time; faiss works in blocks of 4096 queries itself

Array = Tensor | np.ndarray[Any, Any]


def exact_search(
    query: Array, gallery: Array, k: int, *, backend: str = "auto", chunk_size: int = CHUNK_SIZE
) -> Neighbours:
    """Find the k gallery items with the largest dot product, without any approximation.

    The products are float32 whatever the inputs, the autocast state and the TF32 setting are. An item that
    is both query and gallery finds itself. Shapes: query (Q, D), gallery (G, D), tensors or numpy arrays.
    `faiss` runs on the CPU, `torch` on the device of the query, `auto` is one of them (see `choose_backend`);
    the result is on the device of the query. Memory beyond inputs and result is bounded by `chunk_size` queries.
    Raises InputError for a NaN or infinity (naming the first bad row), for sets that do not fit together, for k
    outside 1..G, for a backend that is unknown or cannot be imported and for a chunk_size below 1.
    """
    device = device_of(query)
    backend, home = choose_backend(backend, device)
    query = float32_embeddings("query", query).to(home)
    gallery = float32_embeddings("gallery", gallery).to(home)
    check_search(query, gallery, chunk_size)
    if not 1 <= k <= len(gallery):
        raise InputError(
            f"k is {k}, but the gallery has {len(gallery)} items: ask for 1..{len(gallery)} neighbours."
        )
    found = [BACKENDS[backend](part, gallery, k) for part in torch.split(query, chunk_size)]
    return Neighbours(*(torch.cat(parts).to(device) for parts in zip(*found, strict=True)))


def device_of(embeddings: Array) -> torch.device:
    """Where embeddings lie; numpy arrays lie on the CPU."""
    return embeddings.device if isinstance(embeddings, Tensor) else torch.device("cpu")


def float32_embeddings(name: str, embeddings: Array) -> Tensor:
    """Return a set of embeddings (N, D) as float32, without gradient, refusing what cannot be searched.

    Raises WrongTypeError if they are not floating point and InputError if they are not a non-empty matrix or hold
    a NaN, an infinity or values whose products overflow; `name` is the set's name in the message.
    """
    if isinstance(embeddings, np.ndarray):
        embeddings = torch.from_numpy(embeddings if embeddings.flags.writeable else embeddings.copy())
    if not embeddings.is_floating_point():
        raise WrongTypeError(
            f"The {name} embeddings are {embeddings.dtype}: pass floating-point embeddings (N, D)."
        )
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise InputError(
            f"The {name} embeddings have shape {tuple(embeddings.shape)}: pass a matrix (N, D) with at least "
            "one row and one column. If the set is empty, check the split that it comes from."
        )
    embeddings = embeddings.detach().float().contiguous()
    fits = torch.linalg.vector_norm(embeddings, dim=1) <= LONGEST  # false for NaN
    if not fits.all():
        _refuse_non_finite(name, embeddings, int((~fits).nonzero()[0]))
    return embeddings


def _refuse_non_finite(name: str, embeddings: Tensor, row: int) -> None:
    values = embeddings[row]
    bad = values[~values.isfinite()]
    value = float(bad[0]) if len(bad) else float(values.abs().max())
    raise InputError(
        f"Row {row} of the {name} embeddings holds {value}: only finite embeddings with finite products can be "
        "ranked. Look at this image and at the loss of the run; a model that diverged gives NaN everywhere."
    )


def check_search(query: Tensor, gallery: Tensor, chunk_size: int) -> None:
    """Raise InputError if the two sets cannot be compared, or not in chunks of this size."""
    if query.shape[1] != gallery.shape[1]:
        raise InputError(
            f"The query embeddings have {query.shape[1]} dimensions and the gallery embeddings "
            f"{gallery.shape[1]}: embed both sets with the same model."
        )
    if chunk_size < 1:
        raise InputError(
            f"chunk_size is {chunk_size}: it is the number of queries searched at a time, at least 1."
        )
