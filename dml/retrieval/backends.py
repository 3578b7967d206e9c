"""What searches: faiss on the CPU, or torch where the embeddings are. Either proposes; exact ranks do not depend on it.

Axis letters: Q queries, G gallery items, D embedding dimension, k neighbours.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from dml.errors import InputError
from dml.modes import full_precision

__all__ = ["BACKENDS", "CELLS", "Neighbours", "at_a_time", "choose_backend", "no_tf32"]

CELLS = 2**24  # similarities held at a time where a whole chunk x gallery block is formed: 64 MiB in float32
BLOCK = 2**8  # rows settled at a time on a CPU: what they need stays in the cache
CPU = torch.device("cpu")


class Neighbours(NamedTuple):
    """The k nearest gallery items of each query, by falling similarity.

    similarities: (Q, k) float32 dot products.
    indices:      (Q, k) int64, rows of the gallery. The order among equal similarities is arbitrary.
    """

    similarities: Tensor
    indices: Tensor


def choose_backend(name: str, device: torch.device) -> tuple[str, torch.device]:
    """Return the backend that a name stands for, for embeddings on a device, and the device it searches on.

    `auto` is torch for embeddings on an accelerator, on macOS, where faiss beside torch crashes, and where faiss
    cannot be imported; elsewhere it is faiss. faiss is imported here or later, never with this package.

    Raises InputError for an unknown backend, and for `faiss` where it cannot be imported.
    """
    if name not in (accepted := ("auto", *BACKENDS)):
        raise InputError(f"There is no search backend {name!r}: choose one of {', '.join(accepted)}.")
    if name == "auto":
        by_faiss = device.type == "cpu" and sys.platform != "darwin" and _reason_against_faiss() is None
        name = "faiss" if by_faiss else "torch"
    elif name == "faiss" and (reason := _reason_against_faiss()):
        raise InputError(
            f"The search backend faiss cannot be imported here ({reason}): install faiss-cpu, or choose torch or auto, "
            "which give the same metrics to the last bit."
        )
    no_float64 = device.type == "mps"  # ranks are settled in float64
    return name, CPU if name == "faiss" or no_float64 else device


def _reason_against_faiss() -> str | None:
    logging.getLogger("faiss").setLevel(
        logging.WARNING
    )  # it tells which instructions of the processor it tries
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def _faiss(query: Tensor, gallery: Tensor, k: int) -> Neighbours:
    import faiss

    found = faiss.knn(query.numpy(), gallery.numpy(), k, metric=faiss.METRIC_INNER_PRODUCT)
    return Neighbours(*map(torch.from_numpy, found))


def _torch(query: Tensor, gallery: Tensor, k: int) -> Neighbours:
    with full_precision(query), no_tf32():
        parts = torch.split(query, max(1, CELLS // len(gallery)))
        found = [(part @ gallery.T).topk(k, dim=1) for part in parts]
    return Neighbours(torch.cat([f.values for f in found]), torch.cat([f.indices for f in found]))


def at_a_time(device: torch.device, width: int) -> int:
    """How many rows of a width to work on at once: a CPU's cache full, an accelerator's bounded share of its memory."""
    return BLOCK if device.type == "cpu" else max(BLOCK, CELLS // 4 // width)


@contextmanager
def no_tf32() -> Iterator[None]:
    """Multiply float32 as float32, on a GPU and on a CPU, whatever training has chosen, which is put back.

    torch 2.9 split its one setting by device and operation, and refuses to read it where the new ones were used.
    """
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    matmuls = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    chosen = [matmul.fp32_precision for matmul in matmuls]
    for matmul in matmuls:
        matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        for matmul, precision in zip(matmuls, chosen, strict=True):
            matmul.fp32_precision = "none"  # that of all operations, as long as none is chosen for this one
            if matmul.fp32_precision != precision:
                matmul.fp32_precision = precision


BACKENDS: dict[str, Callable[[Tensor, Tensor, int], Neighbours]] = {"faiss": _faiss, "torch": _torch}
