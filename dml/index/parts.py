"""The vectors of a part of a run's data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dml.config import TrainConfig, build
from dml.data import Records, evaluation_batches
from dml.devices import choose_device, choose_workers
from dml.model import EmbeddingModel
from dml.retrieval import embed

__all__ = ["embed_part"]


def embed_part(cfg: TrainConfig, model: EmbeddingModel, records: Records) -> NDArray[np.float32]:
    """The vectors (n, D) of all images of a part, as the run evaluates them."""
    device = choose_device(cfg)
    batches = evaluation_batches(
        records,
        build(cfg.transform.evaluation),
        batch_size=cfg.evaluator.batch_size,
        num_workers=choose_workers(cfg, device),
    )
    vectors: NDArray[np.float32] = embed(model, batches, device=device).vectors.cpu().numpy()
    return vectors
