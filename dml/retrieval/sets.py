"""A query set and a gallery, with their labels, as they are ranked: unit vectors whose similarities are exact.

The similarity of two embeddings is their dot product after each component was rounded to a multiple of GRID.
Products of such numbers are multiples of GRID², and for unit vectors every sum of them fits the 53 bits of a
float64. So the similarity is exact in whatever order it is summed, and what is equal is equal on every
device, at every place of the gallery and in every chunk.

Axis letters: Q queries, G gallery items, D embedding dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dml.errors import InputError, WrongTypeError
from dml.retrieval.backends import at_a_time
from dml.retrieval.index import Array, float32_embeddings

__all__ = [
    "GRID",
    "UNIT_TOLERANCE",
    "LabelledSets",
    "correct_items",
    "labelled_sets",
    "round_to_grid",
    "search_error",
]

GRID = 2.0**-25  # finer than what float32 resolves of a similarity near 1 (2^-24)
UNIT_TOLERANCE = 1e-6  # on the length; normalising in float32 leaves a few 1e-7


class LabelledSets(NamedTuple):
    """A query set and the gallery it is searched in.

    query:          (Q, D) float32 on the grid, unit length.
    query_labels:   (Q,) int64.
    gallery:        (G, D) float32 on the grid, unit length.
    gallery_labels: (G,) int64.
    same:           query and gallery are one set, so item i may not find item i.
    """

    query: Tensor
    query_labels: Tensor
    gallery: Tensor
    gallery_labels: Tensor
    same: bool


def correct_items(sets: LabelledSets) -> Tensor:
    """Count R(q) for every query: gallery items of its class, itself excluded. (Q,) int64."""
    classes, sizes = torch.unique(sets.gallery_labels, return_counts=True)
    place = torch.searchsorted(classes, sets.query_labels.contiguous()).clamp(max=len(classes) - 1)
    return torch.where(classes[place] == sets.query_labels, sizes[place], 0) - int(sets.same)


def labelled_sets(
    query: Array,
    query_labels: Array,
    gallery: Array | None,
    gallery_labels: Array | None,
    *,
    device: torch.device,
) -> LabelledSets:
    """Check sets, bring their embeddings to unit length and to the grid, and put all on a device.

    Without a gallery the queries are it. Raises InputError or WrongTypeError for what cannot be ranked.
    """
    x = _unit_embeddings("query", query, device)
    labels = _integer_labels("query", query_labels, len(query)).to(device)
    if gallery is None and gallery_labels is None:
        return LabelledSets(x, labels, x, labels, same=True)
    if gallery is None or gallery_labels is None:
        names = ("gallery", "gallery_labels") if gallery_labels is None else ("gallery_labels", "gallery")
        raise InputError(
            f"{names[0]} is given but {names[1]} is not: pass both, or neither to search the queries."
        )
    y = _unit_embeddings("gallery", gallery, device)
    those = _integer_labels("gallery", gallery_labels, len(gallery)).to(device)
    return LabelledSets(x, labels, y, those, same=False)


def _unit_embeddings(name: str, embeddings: Array, device: torch.device) -> Tensor:
    x = float32_embeddings(name, embeddings).to(device)
    lengths = torch.cat([_lengths(part) for part in torch.split(x, at_a_time(device, x.shape[1]))])
    if not lengths.all():
        raise InputError(
            f"Row {int(lengths.flatten().argmin())} of the {name} embeddings is all zeros: it has no direction to be "
            "compared by. Look at this image, and at whether the model has collapsed."
        )
    is_unit = (lengths - 1).abs() <= UNIT_TOLERANCE
    return round_to_grid(x / torch.where(is_unit, 1.0, lengths))


def _lengths(x: Tensor) -> Tensor:
    """The length of each row, (N, D) -> (N, 1) float32; summed in float64 by halves, so in one order everywhere."""
    squares = x.double().square_()
    while (width := squares.shape[1]) > 1:
        half = width // 2
        squares[:, :half] += squares[:, width - half :]
        squares = squares[:, : width - half]
    return squares.sqrt().float()


def search_error(embedding_dim: int) -> float:
    """Bound the error of a float32 dot product of two unit vectors, in any order of summation.

    |error| <= D u |x|·|y| / (1 - D u), u = 2^-24. Source: Higham, Accuracy and Stability of Numerical
    Algorithms, section 3.1.
    """
    rounding = embedding_dim * 2.0**-24
    return rounding / (1 - rounding) * (1 + UNIT_TOLERANCE) ** 2


def round_to_grid(embeddings: Tensor) -> Tensor:
    """Round float32 components to multiples of GRID, half to even; scaling by a power of two is exact."""
    return (embeddings / GRID).round_().mul_(GRID)


def _integer_labels(name: str, labels: Array, length: int) -> Tensor:
    labels = torch.from_numpy(labels.copy()) if isinstance(labels, np.ndarray) else labels
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise WrongTypeError(
            f"The {name} labels are {labels.dtype}: pass class numbers of an integer type (floating point "
            "would merge large ones)."
        )
    if labels.shape != (length,):
        raise InputError(
            f"The {name} set has {length} embeddings and labels of shape {tuple(labels.shape)}: pass one "
            "label per embedding."
        )
    return labels.to(torch.int64)
