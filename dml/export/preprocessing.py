"""What is done to an image before the model sees it, in plain values."""

from __future__ import annotations

from typing import Any

import torch

from dml.data import EvaluationTransform
from dml.errors import InputError
from dml.export.graphs import OUTPUTS
from dml.model import EmbeddingModel
from dml.types import Pooled

__all__ = ["FORMAT", "preprocessing_of"]

FORMAT = 1  # of preprocess.json and certificate.json


def preprocessing_of(model: EmbeddingModel) -> dict[str, Any]:
    """What preprocess.json says, but for whose it is.

    Raises:
        InputError: images are prepared by code that is not of this framework.
    """
    preprocess = model.preprocess
    if type(preprocess) is not EvaluationTransform:
        raise InputError(
            f"transform.evaluation is a {type(preprocess).__name__}, which embed.py does not know: only a run whose "
            "images are prepared by dml.data.EvaluationTransform can be exported; train with that"
        )
    with torch.no_grad():
        pooled: Pooled = model(torch.zeros(1, 3, preprocess.size, preprocess.size, dtype=torch.uint8))
    return {
        "format": FORMAT,
        "input": {"name": "images", "type": "uint8", "layout": "batch, RGB, rows, columns"},
        "size": preprocess.size,
        "resize": preprocess.resize,
        "whole_pixels": preprocess.whole_pixels,
        "outputs": [name for name in OUTPUTS if getattr(pooled, name) is not None],
        "dimension": model.projection.out_features,
    }
