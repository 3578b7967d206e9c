"""A plain convolutional network, to be trained from random weights: for controlled studies, tests and rehearsals."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from dml.errors import InputError
from dml.types import Normalisation

__all__ = ["ConvNet"]

HALVINGS = 3


class ConvNet(nn.Module):
    """Blocks of a 3 × 3 convolution, BatchNorm and ReLU; the first three halve the map, the others leave its size.

    forward: (B, 3, H, W), normalised -> (B, widths[-1], ceil(H / 8), ceil(W / 8)), non-negative.

    widths: the channels of each block.

    Raises InputError for fewer than three blocks, or a block without channels.
    """

    normalisation: ClassVar[Normalisation] = Normalisation(mean=(127.5,) * 3, std=(127.5,) * 3)

    def __init__(self, *, widths: list[int]) -> None:
        super().__init__()
        if len(widths) < HALVINGS or min(widths) < 1:
            raise InputError(
                f"backbone.widths={list(widths)}: give the channels of {HALVINGS} or more blocks, such as [32, 64, 128]"
            )
        self.out_channels = widths[-1]
        channels = [3, *widths]
        self.layers = nn.Sequential(
            *(
                _block(before, after, stride=2 if i < HALVINGS else 1)
                for i, (before, after) in enumerate(zip(channels, widths, strict=False))
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.layers(images)
        return feature_map


def _block(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())
