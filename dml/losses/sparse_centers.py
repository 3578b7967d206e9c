"""The penalty of SoftTriple, which draws the centres of a class together until superfluous ones are one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.errors import InputError

__all__ = ["SparseCentersRegularizer"]

SMALLEST = 1e-6  # of squared distances: the square root has no gradient where two centres have become one


class SparseCentersRegularizer(nn.Module):
    """Mean distance between the unit centres of a class, ``Σ_c Σ_{s<t} ‖w_cs − w_ct‖ / (K · k · (k − 1))``.

    Pytorch-metric-learning compares every centre with every other, also of other classes: 51 GB for 11,318 classes with
    10 centres.

    Args:
        centers_per_class: k >= 2.

    Shapes:
        centres (K · k, D), class after class -> scalar.

    Raises:
        InputError: fewer than two centres for each class.

    Source: Qian, Shang, Sun, Hu, Li, Jin, "SoftTriple Loss: Deep Metric Learning Without Triplet Sampling", ICCV 2019.
    """

    def __init__(self, *, centers_per_class: int) -> None:
        super().__init__()
        if centers_per_class < 2:
            raise InputError(
                f"loss.centers_per_class={centers_per_class}: one centre has no other to be drawn to; give at least 2, "
                "or switch the penalty off with loss.weight_regularizer=null"
            )
        self.centers_per_class = centers_per_class

    def forward(self, centres: Tensor) -> Tensor:
        by_class = F.normalize(centres, dim=1).reshape(
            -1, self.centers_per_class, centres.shape[1]
        )  # (K, k, D)
        first, second = torch.triu_indices(self.centers_per_class, self.centers_per_class, 1)
        cosine = (by_class @ by_class.mT)[:, first, second]  # (K, pairs of centres)
        distances: Tensor = (2 - 2 * cosine).clamp(min=SMALLEST).sqrt()
        return distances.mean() / 2  # a pair is counted once, and divided by twice the number of pairs
