"""Embed a set and measure it: what training validates with and what the test figures come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dml.data import Records
from dml.distributed import broadcast, gather_numbers, gather_rows
from dml.errors import InputError
from dml.retrieval.backends import choose_backend
from dml.retrieval.embed import Embeddings, embed
from dml.retrieval.levels import groups_of_images, metrics_within_groups
from dml.retrieval.metric_table import Metric, counted_in_rankings
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
        metrics: of rankings, by name, beside those that are always counted.

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
        metrics: Mapping[str, Metric] = MappingProxyType({}),
    ) -> None:
        self._batches, self._recall_at, self._metrics = batches, tuple(recall_at), metrics
        self._device = device
        self._backend, self._searches_on = choose_backend(backend, device)

    @property
    def of_rankings(self) -> list[str]:
        """The metrics that every set has, by which a checkpoint may be chosen."""
        return list(counted_in_rankings(self._recall_at, self._metrics))

    def __call__(self, model: nn.Module, records: Records) -> Evaluation:
        """Measure a set: every process embeds its share, gets all embeddings, and ranks its share of the queries.

        Embeddings stay where the backend searches until the end; the result, the same in every process, is on the CPU.
        """
        own = embed(
            model,
            self._batches(records),
            device=self._device,
            collect_on=self._searches_on,
            measured=records.measured,
        )
        sizes = gather_numbers(len(own.labels))[:, 0].tolist()
        embeddings = Embeddings(
            gather_rows(own.vectors, sizes),
            gather_rows(own.labels, sizes),
            {name: gather_rows(values, sizes) for name, values in own.of_images.items()},
        )
        metrics = self._measure(embeddings, records.is_query)
        metrics |= {name: values.mean().item() for name, values in embeddings.of_images.items()}
        metrics |= self._levels(embeddings, records)
        return Evaluation(broadcast(metrics), embeddings._replace(vectors=embeddings.vectors.cpu()))

    def _measure(
        self, embeddings: Embeddings, is_query: NDArray[np.bool_] | None, among: Tensor | None = None
    ) -> dict[str, float]:
        """The metrics of a set, or of those of its images that a mask (n,) names."""
        return retrieval_metrics(
            *_query_and_gallery(embeddings, is_query, among),
            recall_at=self._recall_at,
            backend=self._backend,
            shared=True,
            further=self._metrics,
        )

    def _levels(self, embeddings: Embeddings, records: Records) -> dict[str, float]:
        """The metrics at the levels of a set, as ``LEVEL/recall@1``; none of one that has too few images for them."""
        found: dict[str, float] = {}
        for level, group_of in records.levels.items():
            masks = groups_of_images(embeddings.labels, records.class_names, group_of)
            if masks := [mask for mask in masks if self._measurable(records, mask.cpu().numpy())]:
                metrics = metrics_within_groups(
                    masks, lambda mask: self._measure(embeddings, records.is_query, mask)
                )
                found |= {f"{level}/{name}": value for name, value in metrics.items()}
        return found

    def _measurable(self, records: Records, among: NDArray[np.bool_]) -> bool:
        """Whether images of a set can be measured by themselves."""
        is_query, labels = records.is_query, records.labels[among]
        if is_query is None:
            return len(labels) > max(self._recall_at) and len(set(labels.tolist())) < len(labels)
        query, gallery = records.labels[among & is_query], records.labels[among & ~is_query]
        return len(gallery) >= max(self._recall_at) and bool(np.isin(query, gallery).any())

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


def _query_and_gallery(
    embeddings: Embeddings, is_query: NDArray[np.bool_] | None, among: Tensor | None
) -> tuple[Tensor, ...]:
    """Arguments of retrieval_metrics: one set that is searched in itself, or two."""
    parts = (embeddings.vectors, embeddings.labels)
    if is_query is None:
        return parts if among is None else tuple(part[among.to(part.device)] for part in parts)
    query = torch.from_numpy(is_query)
    roles = (query, ~query) if among is None else (query & among.cpu(), ~query & among.cpu())
    return tuple(part[rows.to(part.device)] for rows in roles for part in parts)


def _any_positive(records: Records) -> bool:
    if records.is_query is None:
        return len(set(records.labels.tolist())) < len(records)
    found = np.isin(records.labels[records.is_query], records.labels[~records.is_query])
    return bool(found.any())
