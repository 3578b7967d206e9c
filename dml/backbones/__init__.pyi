from .bn_inception import BNInception
from .conv_net import ConvNet
from .efficientnet_lite0 import EfficientNetLite0
from .folding import fold_batchnorm
from .resnet50 import ResNet50
from .timm import Timm

__all__ = ["BNInception", "ConvNet", "EfficientNetLite0", "ResNet50", "Timm", "fold_batchnorm"]
