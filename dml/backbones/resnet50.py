"""ResNet-50 from torchvision, without pooling and classifier."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.hub import get_dir
from torchvision.models import ResNet50_Weights, resnet50

from dml.errors import InputError, UnavailableError
from dml.types import Normalisation

__all__ = ["ResNet50"]


class ResNet50(nn.Module):
    """The four stages of ResNet-50.

    weights: a name in torchvision's `ResNet50_Weights`, which fixes the normalisation; downloaded if
             `pretrained`.
    forward: (B, 3, H, W), normalised -> (B, 2048, ceil(H / 32), ceil(W / 32)), non-negative.
    Raises InputError if there are no such weights, UnavailableError if they cannot be downloaded.
    Source: He et al., "Deep Residual Learning for Image Recognition", 2015.
    """

    out_channels: int = 2048

    def __init__(self, *, weights: str, pretrained: bool) -> None:
        super().__init__()
        if weights not in ResNet50_Weights.__members__:
            known = ", ".join(ResNet50_Weights.__members__)
            raise InputError(f"backbone.weights={weights!r} is unknown for ResNet-50; choose one of {known}.")
        published = ResNet50_Weights[weights]
        network = _download(published) if pretrained else resnet50()
        without_head = list(network.named_children())[:-2]
        self.layers = nn.Sequential(OrderedDict(without_head))
        preset = published.transforms()
        self.normalisation = Normalisation(_to_255(preset.mean), _to_255(preset.std))

    def forward(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.layers(images)
        return feature_map


def _download(weights: ResNet50_Weights) -> nn.Module:
    try:
        network: nn.Module = resnet50(weights=weights)
    except OSError as error:
        raise UnavailableError(
            f"could not download {weights.url}. Put that file into {get_dir()}/checkpoints under its own "
            "name, or set backbone.pretrained=false for random weights."
        ) from error
    return network


def _to_255(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (255 * value for value in values)
    return red, green, blue
