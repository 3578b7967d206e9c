"""The objective, the zero-shot loss and the memory; metric losses come from pytorch-metric-learning."""

from dml.losses.c1 import C1Loss
from dml.losses.cross_batch_memory import CrossBatchMemory
from dml.losses.objective import Losses, Objective
from dml.losses.zero_shot import ZeroShotLoss, split_by_class

__all__ = ["C1Loss", "CrossBatchMemory", "Losses", "Objective", "ZeroShotLoss", "split_by_class"]
