"""Exact retrieval: embed a set, search for nearest embeddings, and the metrics that count what is found."""

from dml.retrieval.embed import Embeddings, embed
from dml.retrieval.evaluator import Evaluation, Evaluator
from dml.retrieval.index import BACKENDS, Neighbours, exact_search
from dml.retrieval.metrics import RetrievalMetrics, retrieval_metrics

__all__ = [
    "BACKENDS",
    "Embeddings",
    "Evaluation",
    "Evaluator",
    "Neighbours",
    "RetrievalMetrics",
    "embed",
    "exact_search",
    "retrieval_metrics",
]
