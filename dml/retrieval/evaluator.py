"""Embed a set and measure it: what training validates with and what the test figures come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import nn

from dml.data import Records
from dml.distributed import broadcast, gather_numbers, gather_rows, is_main
from dml.retrieval.embed import Embeddings, embed
from dml.retrieval.metrics import RetrievalMetrics, retrieval_metrics
from dml.types import Batch

__all__ = ["Evaluation", "Evaluator"]


class Evaluation(NamedTuple):
    """The figures of a set and the embeddings that they were computed from."""

    metrics: RetrievalMetrics
    embeddings: Embeddings


class Evaluator:
    """Every image of a set queries all others.

    Args:
        batches: gives the evaluation batches of a set, in its order; the share of this process.
        recall_at: the K of Recall@K.
        backend: ``faiss`` or ``torch``.
        device: where the model runs.
    """

    def __init__(
        self,
        batches: Callable[[Records], Iterable[Batch]],
        *,
        recall_at: Sequence[int],
        backend: str,
        device: torch.device,
    ) -> None:
        self._batches, self._recall_at = batches, tuple(recall_at)
        self._backend, self._device = backend, device

    def __call__(self, model: nn.Module, records: Records) -> Evaluation:
        """Measure a set: every process embeds its share, the main one measures all, all get both."""
        own = embed(model, self._batches(records), device=self._device)
        sizes = gather_numbers(len(own.labels))[:, 0].tolist()
        embeddings = Embeddings(*(gather_rows(rows, sizes) for rows in own))
        metrics = None
        if is_main():
            metrics = retrieval_metrics(
                embeddings.vectors, embeddings.labels, recall_at=self._recall_at, backend=self._backend
            )
        return Evaluation(cast(RetrievalMetrics, broadcast(metrics)), embeddings)

    def check(self, records: Records, role: str) -> None:
        """Refuse, before any training, a set that could not be evaluated after it.

        Raises:
            ValueError: recall_at reaches beyond the gallery, or the set is empty.
        """
        others = len(records) - 1
        if beyond := [k for k in self._recall_at if k > others]:
            raise ValueError(
                f"evaluator.recall_at has {beyond[0]}, but each query of the {role} set has only {max(others, 0)} "
                f"others to find ({len(records)} images): give numbers up to {max(others, 0)}"
            )
