"""The objective, its memory, and the losses that pytorch-metric-learning lacks or has differently.

A metric loss is a module, called with unit vectors (B, D) and labels (B,), that gives a scalar. ``_takes_`` in its file
in configs/loss/ says what else it takes: ``tuples``, as ``indices_tuple``, so that a miner can go with it;
``references``, as ``ref_emb`` and ``ref_labels``, so that a memory can.
"""

from dml.losses.bounded_cosine import BoundedCosine
from dml.losses.c1 import C1Loss
from dml.losses.cross_batch_memory import CrossBatchMemory
from dml.losses.histogram import HistogramLoss
from dml.losses.miner_trial import lists_tuples
from dml.losses.objective import Losses, Objective
from dml.losses.proxy_nca import ProxyNCALoss
from dml.losses.recall_at_k import RecallAtKLoss
from dml.losses.smooth_ap import SmoothAPLoss
from dml.losses.sparse_centers import SparseCentersRegularizer
from dml.losses.triplet_margin_miner import triplet_margin_miner
from dml.losses.zero_shot import ZeroShotLoss, split_by_class

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
