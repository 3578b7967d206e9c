"""Embed a whole set, once per image and in its order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dml.modes import evaluation_mode
from dml.types import Batch

__all__ = ["Embeddings", "embed"]


class Embeddings(NamedTuple):
    """vectors: (n, D) float32 unit vectors; labels: (n,) int64; both on the CPU."""

    vectors: Tensor
    labels: Tensor


@torch.inference_mode()
def embed(model: nn.Module, batches: Iterable[Batch], *, device: torch.device) -> Embeddings:
    """Embed batches in evaluation mode, without augmentation or gradient; the mode of the model is restored."""
    vectors, labels = [], []
    with evaluation_mode(model):
        for batch in batches:
            vectors.append(model(batch.images.to(device, non_blocking=True)).vectors.float().cpu())
            labels.append(batch.labels)
    return Embeddings(torch.cat(vectors), torch.cat(labels))
