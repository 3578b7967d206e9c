from .contracts import Backbone, FollowedRun, ImageStore, Logger, Loss, Pooling
from .data.records import Records, TrainTest
from .index.index import open_index
from .losses.cross_batch_memory import CrossBatchMemory
from .losses.zero_shot import ZeroShotLoss
from .model import EmbeddingModel
from .pooling.gap import GlobalAveragePooling
from .pooling.gsp import GeneralizedSumPooling
from .retrieval.index import exact_search
from .retrieval.metric_table import Metric, Ranking
from .retrieval.metrics import query_scores, retrieval_metrics
from .runs import load_model
from .types import Normalisation, Pooled

__version__: str
__all__ = [
    "Backbone",
    "CrossBatchMemory",
    "EmbeddingModel",
    "FollowedRun",
    "GeneralizedSumPooling",
    "GlobalAveragePooling",
    "ImageStore",
    "Logger",
    "Loss",
    "Metric",
    "Normalisation",
    "Pooled",
    "Pooling",
    "Ranking",
    "Records",
    "TrainTest",
    "ZeroShotLoss",
    "__version__",
    "exact_search",
    "load_model",
    "open_index",
    "query_scores",
    "retrieval_metrics",
]
