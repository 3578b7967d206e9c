"""Exact search for the nearest embeddings, on the CPU by faiss or anywhere by torch.

Axis letters: Q queries, G gallery items, D embedding dimension, k neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from torch import Tensor

__all__ = ["BACKENDS", "CHUNK_SIZE", "Neighbours", "exact_search", "float32_embeddings"]

CHUNK_SIZE = 4096  # queries at a time; faiss works in blocks of 4096 queries itself
CELLS = 2**24  # similarities held at a time where a whole chunk x gallery block is formed: 64 MiB in float32

Array = Tensor | np.ndarray[Any, Any]


class Neighbours(NamedTuple):
    """The k nearest gallery items of each query, by falling similarity.

    similarities: (Q, k) float32 dot products.
    indices:      (Q, k) int64, rows of the gallery. The order among equal similarities is arbitrary.
    """

    similarities: Tensor
    indices: Tensor


def exact_search(
    query: Array, gallery: Array, k: int, *, backend: str = "faiss", chunk_size: int = CHUNK_SIZE
) -> Neighbours:
    """Find the k gallery items with the largest dot product, without any approximation.

    The products are float32 whatever the inputs, the autocast state and the TF32 setting are. An item that
    is both query and gallery finds itself. Shapes: query (Q, D), gallery (G, D), tensors or numpy arrays.
    `faiss` runs on the CPU, `torch` on the device of the query; the result is on that device. Memory beyond
    inputs and result is bounded by `chunk_size` queries. Raises ValueError for a NaN or infinity (naming the
    first bad row), for sets that do not fit together, for k outside 1..G, for an unknown backend and for a
    chunk_size below 1.
    """
    query, gallery = float32_embeddings("query", query), float32_embeddings("gallery", gallery)
    gallery = gallery.to(query.device)
    check_search(query, gallery, backend, chunk_size)
    if not 1 <= k <= len(gallery):
        raise ValueError(
            f"k is {k}, but the gallery has {len(gallery)} items: ask for 1..{len(gallery)} neighbours."
        )
    search = BACKENDS[backend]
    found = [search(part, gallery, k) for part in torch.split(query, chunk_size)]
    return Neighbours(torch.cat([f.similarities for f in found]), torch.cat([f.indices for f in found]))


def float32_embeddings(name: str, embeddings: Array) -> Tensor:
    """Return a set of embeddings (N, D) as float32, without gradient, refusing what cannot be searched.

    Raises TypeError if they are not floating point and ValueError if they are not a non-empty matrix or hold
    a NaN or infinity; `name` is the set's name in the message.
    """
    if isinstance(embeddings, np.ndarray):
        embeddings = torch.from_numpy(embeddings if embeddings.flags.writeable else embeddings.copy())
    if not embeddings.is_floating_point():
        raise TypeError(
            f"The {name} embeddings are {embeddings.dtype}: pass floating-point embeddings (N, D)."
        )
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(
            f"The {name} embeddings have shape {tuple(embeddings.shape)}: pass a matrix (N, D) with at least "
            "one row and one column. If the set is empty, check the split that it comes from."
        )
    embeddings = embeddings.detach().float().contiguous()
    finite = torch.isfinite(embeddings.sum(dim=1))  # a sum is finite unless a part is not, or it overflows
    if not finite.all():
        _refuse_non_finite(name, embeddings, int((~finite).nonzero()[0]))
    return embeddings


def _refuse_non_finite(name: str, embeddings: Tensor, row: int) -> None:
    values = embeddings[row]
    bad = values[~values.isfinite()]
    value = float(bad[0]) if len(bad) else float(values.abs().max())
    raise ValueError(
        f"Row {row} of the {name} embeddings holds {value}: only finite embeddings can be ranked. "
        "Look at this image and at the loss of the run; a model that diverged gives NaN everywhere."
    )


def check_search(query: Tensor, gallery: Tensor, backend: str, chunk_size: int) -> None:
    """Raise ValueError if the two sets cannot be compared, or by this backend, or in chunks of this size."""
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"The query embeddings have {query.shape[1]} dimensions and the gallery embeddings "
            f"{gallery.shape[1]}: embed both sets with the same model."
        )
    if backend not in BACKENDS:
        raise ValueError(
            f"There is no search backend {backend!r}: choose one of {', '.join(sorted(BACKENDS))}."
        )
    if chunk_size < 1:
        raise ValueError(
            f"chunk_size is {chunk_size}: it is the number of queries searched at a time, at least 1."
        )


def _faiss(query: Tensor, gallery: Tensor, k: int) -> Neighbours:
    similarities, indices = faiss.knn(
        query.cpu().numpy(), gallery.cpu().numpy(), k, metric=faiss.METRIC_INNER_PRODUCT
    )
    return Neighbours(
        torch.from_numpy(similarities).to(query.device), torch.from_numpy(indices).to(query.device)
    )


def _torch(query: Tensor, gallery: Tensor, k: int) -> Neighbours:
    with _full_float32(query.device.type):
        parts = torch.split(query, max(1, CELLS // len(gallery)))
        found = [(part @ gallery.T).topk(k, dim=1) for part in parts]
    return Neighbours(torch.cat([f.values for f in found]), torch.cat([f.indices for f in found]))


@contextmanager
def _full_float32(device_type: str) -> Iterator[None]:
    """Neither autocast nor TF32: a training run may have switched both on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


BACKENDS: dict[str, Callable[[Tensor, Tensor, int], Neighbours]] = {"faiss": _faiss, "torch": _torch}
