"""Parts that break one promise each, for test_checks.py."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dml import FollowedRun, Logger, Metric, Normalisation, Pooled, Records, TrainTest

_counter = itertools.count()


class Pooling(nn.Module):
    """Breaks what it is told to."""

    has_attributes = False
    pools_embedded = False

    def __init__(self, in_channels: int, *, fault: str) -> None:
        super().__init__()
        self.out_channels, self.fault = in_channels + (fault == "channels"), fault
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=fault == "unused")
        self.shift = float(next(_counter)) if fault == "state" else 0.0
        if fault == "embedded":
            self.pools_embedded, self.out_channels = True, in_channels + 1

    def forward(self, features: Tensor) -> Any:
        if self.fault == "tokens" and features.ndim == 3:
            raise IndexError("no width")
        locations = features.flatten(2) if features.ndim == 4 else features.mT
        vectors = locations.mean(2) + self.shift
        if self.fault == "batch":
            vectors = vectors - vectors.mean(0)
        if self.fault == "tensor":
            return vectors
        if self.fault == "random":
            vectors = vectors + torch.rand(())
        if self.fault == "detached":
            vectors = vectors.detach().requires_grad_()
        if self.fault == "root":
            vectors = vectors / vectors.norm(dim=1, keepdim=True)
        if self.fault == "export" and vectors.sum().item() > 1e30:
            vectors = -vectors
        weights = torch.ones(len(features), locations.shape[2]) if self.fault == "shares" else None
        attributes = vectors.softmax(1) if self.fault == "attributes" else None
        return Pooled(vectors, attributes, weights)


class Backbone(nn.Module):
    out_channels = 5
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.0, 0.0, 0.0))

    def __init__(self, *, fault: str) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        if fault != "deviation":
            self.normalisation = Normalisation((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)


class Loss(nn.Module):
    def __init__(self, *, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def forward(
        self, vectors: Tensor, labels: Tensor, indices_tuple: Any = None, **references: Any
    ) -> Tensor:
        if self.fault == "vector":
            return vectors.sum(1)
        if self.fault == "equal":
            return (vectors[0] - vectors[1]).square().sum().sqrt() + vectors[2].sum()
        if self.fault == "constant":
            return vectors.detach().sum().requires_grad_()
        return vectors[:, 0].sum()


def data(fault: str) -> TrainTest:
    images = np.zeros((8, 6, 6, 3), np.float32 if fault == "float" else np.uint8)
    rows, labels = np.arange(8), np.arange(8) % 2 + (fault == "labels")
    names = ("a", "b"), ("b" if fault == "shared" else "c", "d")
    return TrainTest(*(Records(images, rows, labels, classes, ("",) * 8) for classes in names))


class Follower(Logger):
    def __init__(self, run: FollowedRun, *, fault: str) -> None:
        if run.start and fault == "again":
            raise FileExistsError("log.txt")
        self.fault = fault

    def training(self, step: int, scalars: Any) -> None:
        if self.fault == "key":
            raise KeyError("accuracy")


def metric(fault: str) -> Metric:
    if fault == "depth":
        return Metric(lambda ranking: ranking.correct.double().sum(1), kind="count")
    if fault == "share":
        return Metric(lambda ranking: ranking.counts.double())
    return Metric(lambda ranking: ranking.counts.double() - ranking.counts.double().mean(), kind="count")
