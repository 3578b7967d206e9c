"""What is nearest to each query of a test set, how well each is answered, and which are the hardest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dml.randomness import numpy_generator
from dml.retrieval import nearest_neighbours, query_scores

__all__ = ["ORDERS", "QueryRanking", "nearest_right", "order_queries", "rank_queries"]

ORDERS = ("hardest", "easiest", "random")


class QueryRanking(NamedTuple):
    """What is nearest to each query of a set; queries (Q,), gallery (G,) and neighbours (Q, k) as rows of the set.

    scores: by metric, (Q,) float64 as in `query_scores`; NaN for a query that has nothing to find.
    """

    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float64]]
    neighbours: NDArray[np.int64]
    similarities: NDArray[np.float32]

    @property
    def recall(self) -> NDArray[np.float64]:
        """Whether the nearest is of the query's class, 1 or 0."""
        return self.scores["recall@1"]

    @property
    def average_precision(self) -> NDArray[np.float64]:
        """Up to rank R."""
        return self.scores["map@r"]


def rank_queries(
    vectors: Tensor,
    labels: NDArray[np.int64],
    is_query: NDArray[np.bool_] | None,
    neighbours: int,
    *,
    recall_at: Sequence[int] = (),
) -> QueryRanking:
    """Search the queries of a set in its gallery, or in the whole set if it has no roles.

    Args:
        vectors, labels, is_query: (n, D), (n,), (n,), of the images of the set; the roles as in `Records`.
        recall_at: the k of recall@k besides 1.

    Raises:
        InputError: more neighbours than there are to find.
    """
    ranks = sorted({1, *recall_at})
    if is_query is None:
        queries = gallery = np.arange(len(labels))
        scores = query_scores(vectors, labels, recall_at=ranks)
        found = nearest_neighbours(vectors, None, neighbours)
    else:
        queries, gallery = np.flatnonzero(is_query), np.flatnonzero(~is_query)
        scores = query_scores(
            vectors[queries], labels[queries], vectors[gallery], labels[gallery], recall_at=ranks
        )
        found = nearest_neighbours(vectors[queries], vectors[gallery], neighbours)
    neighbouring = gallery[found.indices.numpy()]
    arrays = {name: values.numpy() for name, values in scores.items()}
    return QueryRanking(queries, gallery, arrays, neighbouring, found.similarities.numpy())


def order_queries(average_precision: NDArray[np.float64], order: str, *, seed: int) -> NDArray[np.int64]:
    """The queries in the order to be shown, without those that have nothing to find.

    Hardest first is by the lowest average precision up to rank R, easiest first by the highest; equals are in an order
    drawn by the seed, since many have 0, and by their number all would be of the first few classes.

    average_precision: (Q,), NaN for a query that has nothing to find.
    """
    rows = numpy_generator(seed, "retrieval_grid").permutation(np.flatnonzero(~np.isnan(average_precision)))
    if order == "random":
        return rows
    sign = 1 if order == "hardest" else -1
    return rows[np.argsort(sign * average_precision[rows], kind="stable")]


def nearest_right(
    ranking: QueryRanking, vectors: Tensor, labels: NDArray[np.int64], query: int
) -> tuple[int, float, int]:
    """Row, similarity and rank of the nearest item of the query's class; among equals the wrong ones come first."""
    others = ranking.gallery[ranking.gallery != query]
    similarities = (vectors[others] @ vectors[query]).numpy()
    right = labels[others] == labels[query]
    best = int(np.where(right, similarities, -np.inf).argmax())
    ahead = int((~right & (similarities >= similarities[best])).sum())
    return int(others[best]), float(similarities[best]), ahead + 1
