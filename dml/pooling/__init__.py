"""From a feature map to one vector per image; one file per method."""

from dml.pooling.gap import GlobalAveragePooling
from dml.pooling.gsp import GeneralizedSumPooling

__all__ = ["GeneralizedSumPooling", "GlobalAveragePooling"]
