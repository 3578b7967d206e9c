"""From a feature map to one vector per image; one file per method."""

from dml.pooling.cbam import CBAMPooling
from dml.pooling.delf import DELFPooling
from dml.pooling.gap import GlobalAveragePooling
from dml.pooling.gap_max import GlobalAverageMaxPooling
from dml.pooling.gsop import GSoPPooling
from dml.pooling.gsp import GeneralizedSumPooling
from dml.pooling.gsp_gem import GeneralizedSumGeMPooling
from dml.pooling.gsp_max import GeneralizedSumMaxPooling
from dml.pooling.netvlad import NetVLADPooling
from dml.pooling.otp import OptimalTransportPooling
from dml.pooling.slot import SlotAttentionPooling
from dml.pooling.solar import SOLARPooling
from dml.pooling.transformer import TransformerPooling

__all__ = [
    "CBAMPooling",
    "DELFPooling",
    "GSoPPooling",
    "GeneralizedSumGeMPooling",
    "GeneralizedSumMaxPooling",
    "GeneralizedSumPooling",
    "GlobalAverageMaxPooling",
    "GlobalAveragePooling",
    "NetVLADPooling",
    "OptimalTransportPooling",
    "SOLARPooling",
    "SlotAttentionPooling",
    "TransformerPooling",
]
