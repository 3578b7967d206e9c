"""Exact retrieval: embed a set, search for nearest embeddings, and the metrics that count what is found."""

from dml.retrieval.backends import BACKENDS, Neighbours, choose_backend
from dml.retrieval.embed import Embeddings, embed
from dml.retrieval.evaluator import Evaluation, Evaluator
from dml.retrieval.index import exact_search
from dml.retrieval.metric_table import (
    METRICS,
    Metric,
    Ranking,
    check_metric,
    counted_in_rankings,
    introduce,
    metric,
    precision_at_k,
    ranks_of,
)
from dml.retrieval.metrics import average_precisions, query_scores, retrieval_metrics
from dml.retrieval.neighbours import nearest_neighbours

__all__ = [
    "BACKENDS",
    "METRICS",
    "Embeddings",
    "Evaluation",
    "Evaluator",
    "Metric",
    "Neighbours",
    "Ranking",
    "average_precisions",
    "check_metric",
    "choose_backend",
    "counted_in_rankings",
    "embed",
    "exact_search",
    "introduce",
    "metric",
    "nearest_neighbours",
    "precision_at_k",
    "query_scores",
    "ranks_of",
    "retrieval_metrics",
]
