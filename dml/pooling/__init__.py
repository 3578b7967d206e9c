"""From a feature map to one vector per image; one file per method."""

from dml.pooling.gap import GlobalAveragePooling
from dml.pooling.gap_max import GlobalAverageMaxPooling
from dml.pooling.gsp import GeneralizedSumPooling
from dml.pooling.gsp_gem import GeneralizedSumGeMPooling
from dml.pooling.gsp_max import GeneralizedSumMaxPooling

__all__ = [
    "GeneralizedSumGeMPooling",
    "GeneralizedSumMaxPooling",
    "GeneralizedSumPooling",
    "GlobalAverageMaxPooling",
    "GlobalAveragePooling",
]
