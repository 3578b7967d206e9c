"""How far the figures of a run depend on which classes it was tested on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dml.randomness import numpy_generator
from dml.reporting.embeddings import read_embeddings
from dml.retrieval import query_scores
from dml.run_folder import RunFolder

__all__ = ["intervals_over_classes", "test_intervals"]

DRAWS = 1000
LEVELS = (2.5, 97.5)  # per cent
RECALL_AT = (1, 2, 4, 8)


def test_intervals(run: RunFolder) -> dict[str, tuple[float, float]]:
    """95 % intervals of the test metrics by their names, from the embeddings of a run; {} if it has kept none."""
    if not run.test_embeddings.is_file():
        return {}
    kept: dict[str, NDArray[Any]] = dict(read_embeddings(run.test_embeddings))
    vectors, labels, query, gallery = (kept[key] for key in ("vectors", "labels", "is_query", "is_gallery"))
    sets = (vectors[query], labels[query]) if (query & gallery).all() else None
    pair = sets or (vectors[query], labels[query], vectors[gallery], labels[gallery])
    others = int(gallery.sum()) - (1 if sets else 0)
    scores = query_scores(*pair, recall_at=[k for k in RECALL_AT if k <= others])
    return {name: intervals_over_classes(values.numpy(), labels[query]) for name, values in scores.items()}


def intervals_over_classes(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % interval of the mean of the scores of queries (Q,), by drawing their classes anew 1000 times.

    The queries of a class are alike, and drawing queries would give too short an interval. NaN is left out.
    """
    known = ~np.isnan(scores)
    _, classes = np.unique(labels[known], return_inverse=True)
    sums, counts = np.bincount(classes, weights=scores[known]), np.bincount(classes)
    drawn = numpy_generator("intervals").multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=DRAWS)
    low, high = np.percentile(drawn @ sums / (drawn @ counts), LEVELS)
    return float(low), float(high)
