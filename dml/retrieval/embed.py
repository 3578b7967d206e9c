"""Embed a whole set, once per image and in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dml.modes import evaluation_mode
from dml.types import Batch, Pooled

__all__ = ["Embeddings", "embed"]

Measured = Callable[[Pooled, Sequence[int]], Mapping[str, Tensor]]


class Embeddings(NamedTuple):
    """vectors: (n, D) float32 unit vectors; labels: (n,) int64, on the CPU.

    of_images: what the data set says of each image besides, (n,) each, by the name of its metric.
    """

    vectors: Tensor
    labels: Tensor
    of_images: Mapping[str, Tensor] = MappingProxyType({})


@torch.inference_mode()
def embed(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    collect_on: torch.device | None = None,
    measured: Measured | None = None,
) -> Embeddings:
    """Embed batches in evaluation mode, without augmentation or gradient; the mode of the model is restored.

    device, collect_on: where the model runs, and where the vectors gather; by default there too.
    measured: what the model gives for images, and their indices -> what is kept of each of them, (B,) by name.
    """
    vectors, labels, of_images = [], [], dict[str, list[Tensor]]()
    with evaluation_mode(model):
        for batch in batches:
            pooled: Pooled = model(batch.images.to(device, non_blocking=True))
            vectors.append(pooled.vectors.float().to(collect_on or device))
            labels.append(batch.labels)
            if measured is not None:
                for name, values in measured(pooled, batch.indices.tolist()).items():
                    of_images.setdefault(name, []).append(values)
    joined = {name: torch.cat(values) for name, values in of_images.items()}
    return Embeddings(torch.cat(vectors), torch.cat(labels), joined)
