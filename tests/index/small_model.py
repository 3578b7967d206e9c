"""A model of a few numbers, for what needs no run."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dml.data import EvaluationTransform
from dml.model import EmbeddingModel
from dml.pooling import GlobalAveragePooling
from dml.types import Normalisation


class Patches(nn.Module):
    """A backbone that projects 4 × 4 patches; its weights come from a seed."""

    out_channels = 24
    normalisation: ClassVar[Normalisation] = Normalisation((120.0, 120.0, 120.0), (60.0, 60.0, 60.0))

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, 24, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.project(images).relu()
        return found


def small_model(seed: int = 0, *, size: int = 16, dim: int = 8) -> EmbeddingModel:
    torch.manual_seed(seed)
    preprocess = EvaluationTransform(size=size, resize=size)
    model = EmbeddingModel(Patches(), GlobalAveragePooling(24), embedding_dim=dim, preprocess=preprocess)
    return model.eval()
