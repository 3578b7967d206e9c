"""The zero-shot prediction loss that goes with generalized sum pooling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.regression import cross_half_regression
from dml.modes import full_precision

__all__ = ["ZeroShotLoss", "split_by_class"]


class ZeroShotLoss(nn.Module):
    """Attributes of some classes must suffice to predict the codes of classes that the regression never saw.

    The batch is split into two halves of disjoint classes. From each half the code of every class is regressed on
    the attributes, and predicted on the other half:

        L = mean over the batch of −log softmax_c(s · ⟨Y_c, ŷ⟩)[label]

    over the codes Y_c of all training classes.

    Args:
        num_classes: K, classes in the training set.
        embedding_dim: D, dimension of the class codes.
        ridge: ε > 0 of the regression; published with 0.05.
        scale: s > 0 of the softmax; published with 9.5.

    Shapes:
        attributes (B, M), labels (B,) int64 in [0, K) -> scalar.

    Raises:
        InputError: a parameter out of range, or a batch with fewer than two classes.

    Source: Gürbüz, Şener, Alatan, "Generalized Sum Pooling for Metric Learning", ICCV 2023.
    """

    def __init__(self, num_classes: int, embedding_dim: int, *, ridge: float, scale: float) -> None:
        super().__init__()
        for name, value in (("ridge", ridge), ("scale", scale)):
            if not value > 0:
                raise InputError(f"zero_shot.{name}={value} must be above 0")
        self.class_codes = nn.Parameter(torch.randn(num_classes, embedding_dim) * math.sqrt(2 / num_classes))
        self.ridge, self.scale = ridge, scale

    def forward(self, attributes: Tensor, labels: Tensor) -> Tensor:
        with full_precision(attributes):
            attributes = attributes.to(self.class_codes.dtype)
            halves = split_by_class(labels)
            predicted = cross_half_regression(attributes, self.class_codes[labels], halves, ridge=self.ridge)
            return F.cross_entropy(self.scale * predicted @ self.class_codes.T, labels)


def split_by_class(labels: Tensor) -> Tensor:
    """Assign every second class of a batch to half A; returns (B,) bool.

    The halves never share a class, and depend on the labels alone, not on their order.

    Raises:
        InputError: the batch has fewer than two classes.
    """
    classes, rank = torch.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"the zero-shot loss needs at least two classes in a batch to split it by class, this one has "
            f"{len(classes)}: raise sampler.classes_per_batch, or switch the loss off with zero_shot.weight=0"
        )
    half: Tensor = rank % 2 == 0
    return half
