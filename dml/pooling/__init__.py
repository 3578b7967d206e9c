"""From a feature map to one vector per image; one file per method."""

from dml.pooling.crow import CrossDimensionalWeighting
from dml.pooling.gap import GlobalAveragePooling
from dml.pooling.gap_attributes import GlobalAverageAttributesPooling
from dml.pooling.gap_max import GlobalAverageMaxPooling
from dml.pooling.gem import GeneralizedMeanPooling
from dml.pooling.generalized_max import GeneralizedMaxPooling
from dml.pooling.gsp import GeneralizedSumPooling
from dml.pooling.gsp_gem import GeneralizedSumGeMPooling
from dml.pooling.gsp_max import GeneralizedSumMaxPooling
from dml.pooling.how import NormAttentionPooling
from dml.pooling.lse import LogSumExpPooling
from dml.pooling.max import GlobalMaxPooling
from dml.pooling.weldon import WeldonPooling

__all__ = [
    "CrossDimensionalWeighting",
    "GeneralizedMaxPooling",
    "GeneralizedMeanPooling",
    "GeneralizedSumGeMPooling",
    "GeneralizedSumMaxPooling",
    "GeneralizedSumPooling",
    "GlobalAverageAttributesPooling",
    "GlobalAverageMaxPooling",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "LogSumExpPooling",
    "NormAttentionPooling",
    "WeldonPooling",
]
