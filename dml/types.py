"""The values that pass between the layers, and the legend of axis letters.

Axis letters, the same in every docstring:

    B  batch                      D  embedding dimension
    N  locations (H·W, or tokens) M  prototypes
    C  channels                   K  classes
    H, W  height and width
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch", "Normalisation", "Pooled"]


class Pooled(NamedTuple):
    """What a pooling, and after it the embedding model, says about a batch of images.

    vectors:    (B, D) one vector per image; unit length once the embedding model has returned them.
    attributes: (B, M) histogram over prototypes, rows sum to 1; None if the pooling has no prototypes.
    weights:    (B, N) share of each location in the vector, non-negative, rows sum to 1; None if the
                pooling does not weigh locations.
    """

    vectors: Tensor
    attributes: Tensor | None = None
    weights: Tensor | None = None

    def with_vectors(self, vectors: Tensor) -> Pooled:
        """The same with other vectors; compiled by torch 2.11, ``_replace`` fails or returns an empty tuple."""
        return Pooled(vectors, self.attributes, self.weights)


class Batch(NamedTuple):
    """A batch of training or evaluation images.

    images:  (B, 3, H, W) uint8, RGB.
    labels:  (B,) int64.
    indices: (B,) int64, the row of each image in its data set.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class Normalisation(NamedTuple):
    """How a backbone wants its input: ``(x - mean) / std`` per channel, on values 0..255.

    mean, std: three numbers in the channel order that the backbone expects.
    bgr:       the backbone expects blue first.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False
