"""Embed a whole set, once per image and in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dml.functional.selection import share_on_tiles
from dml.modes import evaluation_mode
from dml.types import Batch, Pooled

__all__ = ["Embeddings", "embed"]

TargetTiles = Callable[[Iterable[int]], NDArray[np.bool_] | None]


class Embeddings(NamedTuple):
    """vectors: (n, D) float32 unit vectors; labels: (n,) int64, on the CPU.

    on_target: (n,) share of the weights of the pooling that lies on the target; None where that is not known.
    """

    vectors: Tensor
    labels: Tensor
    on_target: Tensor | None = None


@torch.inference_mode()
def embed(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    collect_on: torch.device | None = None,
    target_tiles: TargetTiles | None = None,
) -> Embeddings:
    """Embed batches in evaluation mode, without augmentation or gradient; the mode of the model is restored.

    device, collect_on: where the model runs, and where the vectors gather; by default there too.
    target_tiles: indices of images -> (B, g, g) bool, where the targets lie in them; None where that is not known.
    """
    vectors, labels, on_target = [], [], []
    with evaluation_mode(model):
        for batch in batches:
            pooled: Pooled = model(batch.images.to(device, non_blocking=True))
            vectors.append(pooled.vectors.float().to(collect_on or device))
            labels.append(batch.labels)
            tiles = None if target_tiles is None else target_tiles(batch.indices.tolist())
            if tiles is not None and pooled.weights is not None:
                on_target.append(share_on_tiles(pooled.weights.float().cpu(), torch.from_numpy(tiles)))
    return Embeddings(torch.cat(vectors), torch.cat(labels), torch.cat(on_target) if on_target else None)
