"""From a feature map to one vector per image; one file per method."""

from dml.pooling.cbam import CBAMPooling
from dml.pooling.crow import CrossDimensionalWeighting
from dml.pooling.delf import DELFPooling
from dml.pooling.gap import GlobalAveragePooling
from dml.pooling.gap_attributes import GlobalAverageAttributesPooling
from dml.pooling.gap_max import GlobalAverageMaxPooling
from dml.pooling.gem import GeneralizedMeanPooling
from dml.pooling.generalized_max import GeneralizedMaxPooling
from dml.pooling.gsop import GSoPPooling
from dml.pooling.gsp import GeneralizedSumPooling
from dml.pooling.gsp_gem import GeneralizedSumGeMPooling
from dml.pooling.gsp_max import GeneralizedSumMaxPooling
from dml.pooling.how import NormAttentionPooling
from dml.pooling.lse import LogSumExpPooling
from dml.pooling.max import GlobalMaxPooling
from dml.pooling.netvlad import NetVLADPooling
from dml.pooling.otp import OptimalTransportPooling
from dml.pooling.slot import SlotAttentionPooling
from dml.pooling.solar import SOLARPooling
from dml.pooling.tile import TilePooling
from dml.pooling.transformer import TransformerPooling
from dml.pooling.weldon import WeldonPooling

__all__ = [
    "CBAMPooling",
    "CrossDimensionalWeighting",
    "DELFPooling",
    "GSoPPooling",
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
    "NetVLADPooling",
    "NormAttentionPooling",
    "OptimalTransportPooling",
    "SOLARPooling",
    "SlotAttentionPooling",
    "TilePooling",
    "TransformerPooling",
    "WeldonPooling",
]
