"""Triplets by how far they keep a margin."""

from __future__ import annotations

from typing import cast

from pytorch_metric_learning.distances import BaseDistance
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import nn

from dml.errors import InputError

__all__ = ["triplet_margin_miner"]

TYPES = ("all", "easy", "hard", "semihard")


def triplet_margin_miner(*, margin: float, type_of_triplets: str, distance: BaseDistance) -> nn.Module:
    """The miner of pytorch-metric-learning, which would take any word that it does not know for ``all``.

    Args:
        margin: m >= 0 between the distances to the negative and to the positive.
        type_of_triplets: ``all`` that keep less than m; of these ``hard``, the negative nearer than the positive, or
            ``semihard``, the rest; or ``easy``, which keep m.

    Raises:
        InputError: a negative margin, or a type that is none of these.

    Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015.
    """
    if not margin >= 0:
        raise InputError(f"miner.margin={margin}: give 0 or more")
    if type_of_triplets not in TYPES:
        raise InputError(f"miner.type_of_triplets={type_of_triplets}; accepted: {', '.join(TYPES)}")
    return cast(
        nn.Module, TripletMarginMiner(margin=margin, type_of_triplets=type_of_triplets, distance=distance)
    )
