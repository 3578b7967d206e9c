"""Backbones: normalised images in, a feature map or tokens out, the classifier removed.

Each is an nn.Module with `forward(images: (B, 3, H, W)) -> (B, C, H', W') or (B, N, C)` and two facts:
`out_channels`, the C of its output, and `normalisation`, what it wants done to images before.
"""

from dml.backbones.bn_inception import BNInception
from dml.backbones.conv_net import ConvNet
from dml.backbones.efficientnet_lite0 import EfficientNetLite0
from dml.backbones.folding import fold_batchnorm
from dml.backbones.resnet50 import ResNet50
from dml.backbones.timm import Timm

__all__ = ["BNInception", "ConvNet", "EfficientNetLite0", "ResNet50", "Timm", "fold_batchnorm"]
