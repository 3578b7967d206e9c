"""BN-Inception, under the names of its published weights."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.backbones.weights import load_exactly, read_tensors
from dml.errors import MissingFileError
from dml.types import Normalisation

__all__ = ["BNInception"]


class _Block(NamedTuple):
    """Channels of one inception block; a block without `single` and `projection` halves the map."""

    name: str
    single: int  # 1 × 1
    triple: tuple[int, int]  # 1 × 1, then 3 × 3
    double: tuple[int, int]  # 1 × 1, then 3 × 3 twice
    projection: int  # 3 × 3 pooling, then 1 × 1
    pool: str = "average"

    @property
    def stride(self) -> int:
        return 1 if self.single else 2


_BLOCKS = (
    _Block("inception_3a", 64, (64, 64), (64, 96), 32),
    _Block("inception_3b", 64, (64, 96), (64, 96), 64),
    _Block("inception_3c", 0, (128, 160), (64, 96), 0, pool="max"),
    _Block("inception_4a", 224, (64, 96), (96, 128), 128),
    _Block("inception_4b", 192, (96, 128), (96, 128), 128),
    _Block("inception_4c", 160, (128, 160), (128, 160), 128),
    _Block("inception_4d", 96, (128, 192), (160, 192), 128),
    _Block("inception_4e", 0, (128, 192), (192, 256), 0, pool="max"),
    _Block("inception_5a", 352, (192, 320), (160, 224), 128),
    _Block("inception_5b", 352, (192, 320), (192, 224), 128, pool="max"),
)


class BNInception(nn.Module):
    """GoogLeNet with BatchNorm and with two 3 × 3 convolutions in place of each 5 × 5.

    weights: file of the published Caffe weights, read if `pretrained`; its classifier is ignored.
    forward: (B, 3, H, W), BGR, normalised -> (B, 1024, H / 32, W / 32), non-negative; 7 × 7 at 224 and 227.
    Raises MissingFileError if the file is not there, InputError if it does not fit.
    Source: Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift", 2015, in the variant of the published weights `bn_inception-52deb4733.pth`.
    """

    out_channels: int = 1024
    normalisation: ClassVar[Normalisation] = Normalisation((104.0, 117.0, 128.0), (1.0, 1.0, 1.0), bgr=True)

    def __init__(self, *, weights: str | Path, pretrained: bool) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", 3, 64, kernel_size=7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64, kernel_size=1)
        self._add("conv2_3x3", 64, 192, kernel_size=3)
        channels = 192
        for block in _BLOCKS:
            channels = self._add_block(block, channels)
        if pretrained:
            self._load(Path(weights))

    def forward(self, images: Tensor) -> Tensor:
        x = self._convolve("conv1_7x7_s2", images)
        x = F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)
        x = self._convolve("conv2_3x3", self._convolve("conv2_3x3_reduce", x))
        x = F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)
        for block in _BLOCKS:
            x = self._run_block(block, x)
        return x

    def _add(self, name: str, inputs: int, outputs: int, *, kernel_size: int, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2)
        self.add_module(name, convolution)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        convolution, norm = self.get_submodule(name), self.get_submodule(f"{name}_bn")
        return F.relu(norm(convolution(x)), inplace=True)

    def _add_block(self, block: _Block, channels: int) -> int:
        name, (triple_reduce, triple), (double_reduce, double) = block.name, block.triple, block.double
        if block.single:
            self._add(f"{name}_1x1", channels, block.single, kernel_size=1)
        self._add(f"{name}_3x3_reduce", channels, triple_reduce, kernel_size=1)
        self._add(f"{name}_3x3", triple_reduce, triple, kernel_size=3, stride=block.stride)
        self._add(f"{name}_double_3x3_reduce", channels, double_reduce, kernel_size=1)
        self._add(f"{name}_double_3x3_1", double_reduce, double, kernel_size=3)
        self._add(f"{name}_double_3x3_2", double, double, kernel_size=3, stride=block.stride)
        if block.projection:
            self._add(f"{name}_pool_proj", channels, block.projection, kernel_size=1)
        return block.single + triple + double + (block.projection or channels)

    def _run_block(self, block: _Block, x: Tensor) -> Tensor:
        name = block.name
        branches = [self._convolve(f"{name}_1x1", x)] if block.single else []
        branches.append(self._convolve(f"{name}_3x3", self._convolve(f"{name}_3x3_reduce", x)))
        double = self._convolve(f"{name}_double_3x3_reduce", x)
        double = self._convolve(f"{name}_double_3x3_1", double)
        branches.append(self._convolve(f"{name}_double_3x3_2", double))
        pooled = _pool(block, x)
        branches.append(self._convolve(f"{name}_pool_proj", pooled) if block.projection else pooled)
        return torch.cat(branches, dim=1)

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise MissingFileError(
                f"the weights of BN-Inception are not at {path.resolve()}. Get bn_inception-52deb4733.pth "
                "(http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth or a copy; its "
                f"SHA-256 starts with 52deb4733) and put it into {path.resolve().parent} as {path.name}, or "
                "set backbone.weights to where it is, or backbone.pretrained=false for random weights."
            )
        tensors = {
            # Some copies of the file store BatchNorm's vectors as (1, C).
            name: tensor.squeeze(0) if "_bn." in name and tensor.ndim == 2 else tensor
            for name, tensor in read_tensors(path).items()
            if not name.startswith(("last_linear.", "fc."))
        }
        load_exactly(self, tensors, source=path)


def _pool(block: _Block, x: Tensor) -> Tensor:
    if block.pool == "average":
        return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)  # zeros at the border count
    if block.stride == 1:
        return F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
    # Zeros change no maximum of a map after ReLU. They give odd sizes the last window, so that this
    # branch is as large as the convolutions beside it; even sizes are as published.
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)
