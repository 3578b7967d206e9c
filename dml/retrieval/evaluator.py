"""Embed a set and measure it: what training validates with and what the test figures come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dml.data import Records
from dml.distributed import broadcast, gather_numbers, gather_rows
from dml.errors import InputError
from dml.retrieval.backends import choose_backend
from dml.retrieval.embed import Embeddings, embed
from dml.retrieval.metrics import retrieval_metrics
from dml.types import Batch

__all__ = ["Evaluation", "Evaluator"]


class Evaluation(NamedTuple):
    """The figures of a set and the embeddings that they were computed from."""

    metrics: dict[str, float]
    embeddings: Embeddings


class Evaluator:
    """Every image of a set queries all others, or, where a set has roles, its queries its gallery.

    Args:
        batches: gives the evaluation batches of a set, in its order; the share of this process.
        recall_at: the K of Recall@K.
        backend: ``faiss``, ``torch``, or ``auto``, which is one of them; see `choose_backend`.
        device: where the model runs.

    Raises:
        InputError: an unknown backend, or one that cannot be imported.
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
        self._device = device
        self._backend, self._searches_on = choose_backend(backend, device)

    def __call__(self, model: nn.Module, records: Records) -> Evaluation:
        """Measure a set: every process embeds its share, gets all embeddings, and ranks its share of the queries.

        Embeddings stay where the backend searches until the end; the result, the same in every process, is on the CPU.
        """
        own = embed(
            model,
            self._batches(records),
            device=self._device,
            collect_on=self._searches_on,
            target_tiles=records.target_tiles,
        )
        sizes = gather_numbers(len(own.labels))[:, 0].tolist()
        embeddings = Embeddings(*(None if rows is None else gather_rows(rows, sizes) for rows in own))  # type: ignore[arg-type]
        metrics = retrieval_metrics(
            *_query_and_gallery(embeddings, records),
            recall_at=self._recall_at,
            backend=self._backend,
            shared=True,
        )
        if embeddings.on_target is not None:
            metrics["selection_accuracy"] = embeddings.on_target.mean().item()
        return Evaluation(broadcast(metrics), embeddings._replace(vectors=embeddings.vectors.cpu()))

    def check(self, records: Records, role: str) -> None:
        """Refuse, before any training, a set that could not be evaluated after it.

        Raises:
            InputError: recall_at reaches beyond the gallery, or no query has anything to find.
        """
        is_query = records.is_query
        others = len(records) - 1 if is_query is None else int((~is_query).sum())
        if beyond := [k for k in self._recall_at if k > others]:
            raise InputError(
                f"evaluator.recall_at has {beyond[0]}, but each query of the {role} set has only {max(others, 0)} "
                f"others to find ({len(records)} images): give numbers up to {max(others, 0)}"
            )
        if not _any_positive(records):
            raise InputError(
                f"no query of the {role} set has another image of its class to find ({len(records)} images, "
                f"{records.num_classes} classes): give classes of at least two images, and with roles, a query and a "
                "gallery image of the same class"
            )


def _query_and_gallery(embeddings: Embeddings, records: Records) -> tuple[Tensor, ...]:
    """Arguments of retrieval_metrics: one set that is searched in itself, or two."""
    parts = (embeddings.vectors, embeddings.labels)
    if records.is_query is None:
        return parts
    query = torch.from_numpy(records.is_query)
    return tuple(part[rows.to(part.device)] for rows in (query, ~query) for part in parts)


def _any_positive(records: Records) -> bool:
    if records.is_query is None:
        return len(set(records.labels.tolist())) < len(records)
    found = np.isin(records.labels[records.is_query], records.labels[~records.is_query])
    return bool(found.any())
