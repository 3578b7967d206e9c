"""Models of a few numbers with any pooling, on a map or on tokens."""

from __future__ import annotations

from typing import Any

import torch
from hydra.utils import get_class, instantiate
from torch import Tensor

from dml.data import EvaluationTransform
from dml.model import EmbeddingModel
from tests.index.small_model import Patches
from tests.pooling.test_contract import CONFIGS

SIZE, DIM = 16, 8
POOLINGS = sorted(CONFIGS)


class Tokens(Patches):
    """What a transformer hands on: (B, N, C)."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flatten(2).mT


def model_with(pooling: str, *, tokens: bool = False, **options: Any) -> EmbeddingModel:
    """In evaluation mode, with at most four prototypes, clusters, heads or whatever the pooling has a number of."""
    torch.manual_seed(0)
    settings = {
        key: min(value, 4) if key.startswith("num_") else value
        for key, value in CONFIGS[pooling]["pooling"].items()
    } | options
    channels = DIM if get_class(settings["_target_"]).pools_embedded else Patches.out_channels  # type: ignore[attr-defined]
    model = EmbeddingModel(
        Tokens() if tokens else Patches(),
        instantiate(settings, in_channels=channels),
        embedding_dim=DIM,
        preprocess=EvaluationTransform(size=SIZE, resize=SIZE),
    )
    return model.eval()
