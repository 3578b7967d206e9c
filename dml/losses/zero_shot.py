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

STARTS = ("published", "scaled")
LEAST_NORM = 1e-12  # squared, of centred attributes: those that are all equal predict 0, and not NaN


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
        centred: take the mean of the batch, which knows no labels, from the attributes, and ε in units of the mean
            squared norm of what is left. Attributes are histograms, of which most is the constant 1/M; an ε that is
            large beside the rest lets nothing be predicted from it.
        start: of the class codes. "published": normal with a standard deviation of √(2/K), so that the loss starts far
            above log K where K is small. "scaled": with s‖Y_c‖² = 1, so that it starts at log K for any K and D.
        cosine: ŷ and Y_c count by their direction alone.
        learnable_scale: train s as a logarithm, from `scale` on.

    Shapes:
        attributes (B, M), labels (B,) int64 in [0, K) -> scalar.

    Raises:
        InputError: a parameter out of range, or a batch with fewer than two classes.

    Source: Gürbüz, Şener, Alatan, "Generalized Sum Pooling for Metric Learning", ICCV 2023; centring, the scaled start
    and the last two options are this project's.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        ridge: float,
        scale: float,
        centred: bool = False,
        start: str = "published",
        cosine: bool = False,
        learnable_scale: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("ridge", ridge), ("scale", scale)):
            if not value > 0:
                raise InputError(f"zero_shot.{name}={value} must be above 0")
        if start not in STARTS:
            raise InputError(f"zero_shot.start={start!r}; accepted: {', '.join(STARTS)}")
        codes = torch.randn(num_classes, embedding_dim)
        scaled = F.normalize(codes, dim=1) / math.sqrt(scale)
        self.class_codes = nn.Parameter(scaled if start == "scaled" else codes * math.sqrt(2 / num_classes))
        self.ridge, self.centred, self.cosine = ridge, centred, cosine
        self.fixed_scale = None if learnable_scale else scale
        if learnable_scale:
            self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @property
    def scale(self) -> float | Tensor:
        """s: a number, or a scalar tensor while it is learned."""
        return self.log_scale.exp() if self.fixed_scale is None else self.fixed_scale

    def forward(self, attributes: Tensor, labels: Tensor) -> Tensor:
        with full_precision(attributes):
            codes: Tensor = self.class_codes
            ridge: float | Tensor = self.ridge
            attributes = attributes.to(codes.dtype)
            if self.centred:
                attributes, ridge = _centred(attributes, self.ridge)
            predicted = cross_half_regression(attributes, codes[labels], split_by_class(labels), ridge=ridge)
            if self.cosine:
                predicted, codes = F.normalize(predicted, dim=1), F.normalize(codes, dim=1)
            return F.cross_entropy(self.scale * predicted @ codes.T, labels)


def _centred(attributes: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The attributes (B, M) without their mean, and the ridge in units of the mean squared norm of the rest, ()."""
    rest = attributes - attributes.mean(0)
    return rest, ridge * (rest.square().sum(1).mean() + LEAST_NORM)


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
