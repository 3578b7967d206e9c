"""The layers of timm that `dml.backbones.folding` folds; imported with timm, and not before."""

from __future__ import annotations

from typing import Any

from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from dml.backbones.folding import folded

__all__ = ["CONVOLUTIONS", "FOLLOWERS"]


class FoldedConv2dSame(Conv2dSame):
    """A convolution with the padding of TensorFlow that is followed by a BatchNorm."""

    followers: tuple[nn.BatchNorm2d]

    def forward(self, values: Tensor) -> Tensor:
        if self.followers[0].training:
            return super().forward(values)  # type: ignore[no-untyped-call, no-any-return]
        weight, bias = folded(self, *self.followers)
        geometry: Any = (self.stride, self.padding, self.dilation, self.groups)
        return conv2d_same(values, weight, bias, *geometry)  # type: ignore[no-any-return]


class PassingBatchNormAct2d(BatchNormAct2d):
    """A BatchNorm with an activation, whose own work the convolution before it does, unless it trains."""

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            return super().forward(values)  # type: ignore[no-untyped-call, no-any-return]
        output: Tensor = self.act(self.drop(values))
        return output


CONVOLUTIONS: dict[type, type] = {Conv2dSame: FoldedConv2dSame}
FOLLOWERS: dict[type, type] = {BatchNormAct2d: PassingBatchNormAct2d}
