"""A few convolutions, for tests and rehearsals."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from dml.types import Normalisation

__all__ = ["Tiny"]


class Tiny(nn.Module):
    """Three convolutions with BatchNorm and ReLU, of stride 2 each.

    forward: (B, 3, H, W), normalised -> (B, out_channels, ceil(H / 8), ceil(W / 8)), non-negative.
    """

    normalisation: ClassVar[Normalisation] = Normalisation(mean=(127.5,) * 3, std=(127.5,) * 3)

    def __init__(self, *, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.layers = nn.Sequential(_block(3, 16), _block(16, 32), _block(32, out_channels))

    def forward(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.layers(images)
        return feature_map


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())
