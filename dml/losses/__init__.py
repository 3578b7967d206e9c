"""The objective and the zero-shot loss; metric losses come from pytorch-metric-learning."""

from dml.losses.objective import Losses, Objective
from dml.losses.zero_shot import ZeroShotLoss, split_by_class

__all__ = ["Losses", "Objective", "ZeroShotLoss", "split_by_class"]
