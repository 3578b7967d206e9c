"""What a ranking is worth: recall@k, r_precision and map@r, by exact search and with ties against the model.

Axis letters: Q queries, G gallery items, D embedding dimension, k ranks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from dml.distributed import deal, gather_numbers, gather_rows, is_main
from dml.errors import InputError
from dml.retrieval.backends import BLOCK, choose_backend
from dml.retrieval.index import CHUNK_SIZE, Array, check_search, device_of
from dml.retrieval.metric_table import Metric, Ranking, counted_in_rankings
from dml.retrieval.ranking import rank
from dml.retrieval.sets import LabelledSets, correct_items, labelled_sets
from dml.retrieval.threads import one_thread

__all__ = ["average_precisions", "query_scores", "retrieval_metrics"]

COLLAPSED = 0.999  # mean pairwise cosine

Counted = Mapping[str, Callable[[Ranking], Tensor]]


def retrieval_metrics(
    query: Array,
    query_labels: Array,
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    *,
    recall_at: Sequence[int] = (1, 2, 4, 8),
    backend: str = "auto",
    chunk_size: int = CHUNK_SIZE,
    shared: bool = False,
    further: Mapping[str, Metric] = MappingProxyType({}),
) -> dict[str, float]:
    """Rank the gallery for every query by exact search, once, and count what is correct: by the names of metrics.json.

    With R(q) correct items in the gallery and P(i) the precision of the first i ranks of query q,

        recall@k    = mean_q [a correct item is among the first k]
        r_precision = mean_q (correct items among the first R(q)) / R(q)
        map@r       = mean_q (1 / R(q)) Σ_{i <= R(q)} P(i) [item i is correct]

    Without a gallery the queries are searched in themselves and each one's own entry is removed by its index.
    Among equal similarities the wrong items come first, so that a collapsed model scores 0. Queries without
    a correct item are left out and counted. The order of the gallery, chunk_size (queries searched at a time),
    backend ("auto", "faiss", "torch"; see `choose_backend`), device and number of processes change no bit of it.

    shared: every process of the run calls this with the same sets, ranks its share of the queries, and gets the result
    over all; otherwise the process that calls ranks them all.
    further: metrics of one's own, by name, counted in the same ranking; a name that ends with ``@k`` once for each k.

    Shapes: query (Q, D), query_labels (Q,), gallery (G, D), gallery_labels (G,); tensors or numpy arrays,
    labels of any integer type. Embeddings that miss unit length by more than the rounding of float32 are brought to
    it: those of a bfloat16 model miss it by up to 4e-3, enough to change a ranking.
    Memory, in every process: a rounded float32 copy of each set, a float64 copy of the gallery if ties must be settled
    over all of it, and blocks bounded by chunk_size; with backend torch all of it on the device of the queries.

    Raises InputError or WrongTypeError, with the value and the first bad row, for what cannot be ranked. Warns
    (UserWarning) if the mean pairwise cosine is above 0.999: such a model has collapsed.
    Source: Musgrave, Belongie and Lim, A Metric Learning Reality Check, ECCV 2020.
    """
    backend, device = choose_backend(backend, device_of(query))
    with one_thread():
        sets = labelled_sets(query, query_labels, gallery, gallery_labels, device=device)
        counts = correct_items(sets).cpu()
    check_search(sets.query, sets.gallery, chunk_size)
    _check_recall_at(recall_at, len(sets.gallery) - sets.same)
    if is_main() or not shared:
        _warn_if_collapsed(sets)
    rows = _answerable(counts)
    if len(rows) == 0:
        raise InputError(
            f"None of the {len(counts)} queries has a correct item in the gallery of {len(sets.gallery)}, so "
            "that no metric is defined: check that both sets use the same class numbers, and that the "
            "classes of a set searched in itself have at least two images."
        )
    counted = counted_in_rankings(recall_at, further)
    values = _rank_and_score(sets, rows, counts, counted, max(recall_at), backend, chunk_size, shared)
    if shared:
        values = values[rows[deal()]]
        values = gather_rows(values, gather_numbers(len(values))[:, 0].tolist())
    else:
        values = values[rows]
    means = [math.fsum(column) / len(rows) for column in values.T.tolist()]
    sizes = {"queries": len(rows), "gallery": len(sets.gallery), "left_out": len(counts) - len(rows)}
    return {**dict(zip(counted, means, strict=True)), **sizes}


def query_scores(
    query: Array,
    query_labels: Array,
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    *,
    recall_at: Sequence[int] = (1,),
    backend: str = "auto",
    chunk_size: int = CHUNK_SIZE,
) -> dict[str, Tensor]:
    """What each query adds to the means of `retrieval_metrics`, under their names: recall@k, r_precision, map@r.

    (Q,) float64 each, NaN for a query without a correct item. Sets, ties and errors as in `retrieval_metrics`.
    """
    backend, device = choose_backend(backend, device_of(query))
    with one_thread():
        sets = labelled_sets(query, query_labels, gallery, gallery_labels, device=device)
        counts = correct_items(sets).cpu()
    check_search(sets.query, sets.gallery, chunk_size)
    _check_recall_at(recall_at, len(sets.gallery) - sets.same)
    counted = counted_in_rankings(recall_at)
    values = _rank_and_score(sets, _answerable(counts), counts, counted, max(recall_at), backend, chunk_size)
    return dict(zip(counted, values.unbind(dim=1), strict=True))


def average_precisions(
    query: Array, query_labels: Array, gallery: Array | None = None, gallery_labels: Array | None = None
) -> Tensor:
    """The average precision up to rank R(q) of each query, the ``map@r`` of `query_scores`: (Q,) float64."""
    return query_scores(query, query_labels, gallery, gallery_labels)["map@r"]


def _answerable(counts: Tensor) -> Tensor:
    """The queries that have something to find, by its number: dealt out in turn, they are shares of equal work."""
    return counts.argsort(stable=True)[int((counts == 0).sum()) :]


def _rank_and_score(
    sets: LabelledSets,
    rows: Tensor,
    counts: Tensor,
    counted: Counted,
    least: int,
    backend: str,
    chunk_size: int,
    shared: bool = False,
) -> Tensor:
    """Rank for some queries, which have their `counts` correct items, and score: rows as in `_per_query`, else NaN."""
    depths = counts.clamp(min=least)  # one search for all metrics: k = max(R, largest recall@k)
    values = torch.full((len(counts), len(counted)), math.nan, dtype=torch.float64)
    for found in rank(sets, rows, depths, backend=backend, chunk_size=chunk_size, shared=shared):
        for part, correct in zip(*(torch.split(x, BLOCK) for x in found), strict=True):
            values[part] = _per_query(correct, counts[part], counted)
    return values


@one_thread()
def _per_query(correct: Tensor, counts: Tensor, counted: Counted) -> Tensor:
    """Score rankings (Q, k) in float64: (Q, len(counted))."""
    ranking = Ranking(correct, correct.cumsum(dim=1), counts)
    return torch.stack([of_queries(ranking) for of_queries in counted.values()], dim=1)


def _check_recall_at(recall_at: Sequence[int], available: int) -> None:
    if not recall_at or min(recall_at) < 1:
        raise InputError(
            f"recall_at is {tuple(recall_at)}: pass one or more ranks of at least 1, such as (1, 2, 4, 8)."
        )
    if max(recall_at) > available:
        raise InputError(
            f"recall_at asks for recall@{max(recall_at)}, but a query has only {available} gallery items to "
            f"find: pass ranks of at most {available}."
        )


def _warn_if_collapsed(sets: LabelledSets) -> None:
    """Warn by the mean cosine of all pairs of query and gallery together, (|Σ x|² - Σ |x|²) / (N (N - 1))."""
    parts = [sets.gallery] if sets.same else [sets.query, sets.gallery]
    count = sum(len(part) for part in parts)
    total = torch.stack([part.sum(dim=0) for part in parts]).sum(dim=0).double()
    squares = sum(float(torch.linalg.vector_norm(part)) ** 2 for part in parts)
    cosine = (float(total @ total) - squares) / max(1, count * (count - 1))
    if cosine > COLLAPSED:
        warnings.warn(
            f"The mean pairwise cosine of the embeddings is {cosine:.6f}, above {COLLAPSED}: the model has "
            "nearly collapsed and hardly tells any two images apart. Look at the loss and the learning rate.",
            stacklevel=3,
        )
