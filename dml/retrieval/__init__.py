"""Exact retrieval: embed a set, search for nearest embeddings, and the metrics that count what is found."""

from dml.retrieval.backends import BACKENDS, Neighbours, choose_backend
from dml.retrieval.embed import Embeddings, embed
from dml.retrieval.evaluator import Evaluation, Evaluator
from dml.retrieval.index import exact_search
from dml.retrieval.metrics import RetrievalMetrics, average_precisions, retrieval_metrics
from dml.retrieval.neighbours import nearest_neighbours

__all__ = [
    "BACKENDS",
    "Embeddings",
    "Evaluation",
    "Evaluator",
    "Neighbours",
    "RetrievalMetrics",
    "average_precisions",
    "choose_backend",
    "embed",
    "exact_search",
    "nearest_neighbours",
    "retrieval_metrics",
]
