from .bounded_cosine import BoundedCosine
from .c1 import C1Loss
from .cross_batch_memory import CrossBatchMemory
from .histogram import HistogramLoss
from .miner_trial import lists_tuples
from .objective import Losses, Objective
from .proxy_nca import ProxyNCALoss
from .recall_at_k import RecallAtKLoss
from .smooth_ap import SmoothAPLoss
from .sparse_centers import SparseCentersRegularizer
from .triplet_margin_miner import triplet_margin_miner
from .zero_shot import ZeroShotLoss, split_by_class

__all__ = [
    "BoundedCosine",
    "C1Loss",
    "CrossBatchMemory",
    "HistogramLoss",
    "Losses",
    "Objective",
    "ProxyNCALoss",
    "RecallAtKLoss",
    "SmoothAPLoss",
    "SparseCentersRegularizer",
    "ZeroShotLoss",
    "lists_tuples",
    "split_by_class",
    "triplet_margin_miner",
]
