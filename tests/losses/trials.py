"""What losses can do, found out by trying: some accept an argument and then pass it over."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from dml.losses.miner_trial import on_a_circle


@torch.no_grad()
def compares_with_references(metric: nn.Module, embedding_dim: int) -> bool:
    """Whether pairs lead from a batch to references, such as those of a memory, in whatever order they stand.

    Some losses refuse references, others pass them over, and some take the place of a reference for a place in the
    batch, so that the order of the references changes the loss.
    """
    labels = torch.tensor([0, 1])
    vectors = torch.eye(2, embedding_dim)
    references = vectors.flip(0)  # each nearest to the wrong class, so that no margin is kept

    def loss(references: Tensor, labels_there: Tensor) -> float:
        return float(metric(vectors, labels, ref_emb=references, ref_labels=labels_there))

    try:
        near, far = loss(references, labels.clone()), loss(-references, labels.clone())
        reordered = loss(references.flip(0), labels.flip(0))
    except (TypeError, ValueError):
        return False
    return near != far and math.isclose(near, reordered, rel_tol=1e-4)


@torch.no_grad()
def takes_mined_tuples(metric: nn.Module, embedding_dim: int) -> bool:
    """Whether a loss is computed on the pairs or triplets that a miner lists.

    Some losses refuse such lists; others weigh each image by how often it is listed, whatever with.
    """
    vectors = on_a_circle([0, 170, 110, 300, 10, 160, 100, 310], embedding_dim)
    labels = torch.arange(8) // 4
    # Both list every image, and every anchor, equally often; but ``hard`` with far positives and near negatives.
    hard = ([0, 2, 4, 6], [1, 3, 5, 7], [0, 1, 4, 5], [4, 5, 0, 1])
    easy = ([0, 2, 4, 6], [3, 1, 7, 5], [0, 1, 4, 5], [5, 4, 1, 0])

    def loss(listed: tuple[list[int], ...]) -> float:
        return float(cast(Tensor, metric(vectors, labels, tuple(map(torch.tensor, listed)))))

    try:
        return not math.isclose(loss(hard), loss(easy), rel_tol=1e-4)
    except (TypeError, ValueError):
        return False
