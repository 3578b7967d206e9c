"""Frozen BatchNorm as part of the convolution before it, which saves its time and the memory of its input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.modes import evaluation_mode

__all__ = ["fold_batchnorm", "folded"]


def fold_batchnorm(backbone: nn.Module, image_size: int) -> int:
    """Let each convolution that only a BatchNorm follows do the work of both while the BatchNorm is frozen.

        γ (W ∗ x + b − m) / √(v + ε) + β = W' ∗ x + b',   W' = s W,   b' = s (b − m) + β,   s = γ / √(v + ε)

    Parameters, buffers and their names stay as they are, gradients are those of W and b, and a BatchNorm in training
    mode works as before. In place; pairs are found by running the backbone once.

    Args:
        image_size: side of a square image that the backbone takes, in pixels.

    Returns:
        How many pairs were folded.
    """
    if not any(type(module) in _followers() for module in backbone.modules()):
        return 0
    if any(parameter.is_meta for parameter in backbone.parameters()):
        return 0  # shapes without numbers, on which nothing can be compared
    image = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), evaluation_mode(backbone):
        pairs = list(_pairs(backbone, image))
        with _drawn_statistics([norm for _, norm in pairs]):
            before = backbone(image)
            for convolution, norm in pairs:
                _fold(convolution, norm)
            same = torch.allclose(backbone(image), before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))
        if not same:
            for convolution, norm in pairs:  # something else than the BatchNorm saw what the convolution gave
                _unfold(convolution, norm)
            return 0
    return len(pairs)


@contextmanager
def _drawn_statistics(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Let BatchNorm do something within the block: a new one is the identity, and whatever were folded would pass."""
    generator = torch.Generator().manual_seed(0)
    held = [values for norm in norms for values in (norm.weight, norm.bias, *norm.buffers())]
    before = [values.clone() for values in held]
    for norm in norms:
        for values in (norm.weight, cast(Tensor, norm.running_var)):
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
        for values in (norm.bias, cast(Tensor, norm.running_mean)):
            values.copy_(torch.randn(values.shape, generator=generator) / 4)
    yield
    for values, value in zip(held, before, strict=True):
        values.copy_(value)


class FoldedConv2d(nn.Conv2d):
    """A convolution that is followed by a BatchNorm; it holds that one without owning it."""

    followers: tuple[nn.BatchNorm2d]

    def forward(self, values: Tensor) -> Tensor:
        if self.followers[0].training:
            return super().forward(values)
        weight, bias = folded(self, *self.followers)
        return F.conv2d(values, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """W' and b' of the formula of `fold_batchnorm`."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - mean * scale
    bias = shift if convolution.bias is None else shift + convolution.bias * scale
    return convolution.weight * scale.view(-1, 1, 1, 1), bias


class PassingBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm whose work the convolution before it does, unless it trains."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values) if self.training else values


def _convolutions() -> dict[type, type]:
    """What takes the place of which convolution. Those of timm are known once a backbone has imported it."""
    if "timm" not in sys.modules:
        return {nn.Conv2d: FoldedConv2d}
    from dml.backbones.folding_timm import CONVOLUTIONS

    return {nn.Conv2d: FoldedConv2d, **CONVOLUTIONS}


def _followers() -> dict[type, type]:
    """What takes the place of which BatchNorm, likewise."""
    if "timm" not in sys.modules:
        return {nn.BatchNorm2d: PassingBatchNorm2d}
    from dml.backbones.folding_timm import FOLLOWERS

    return {nn.BatchNorm2d: PassingBatchNorm2d, **FOLLOWERS}


def _pairs(backbone: nn.Module, image: Tensor) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the BatchNorm that each is followed by, if either is called once."""
    outputs: list[tuple[Any, nn.Module]] = []
    followed: list[tuple[nn.Module, nn.Module]] = []

    def remember(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append((output, module))

    def look_back(module: nn.Module, inputs: Any) -> None:
        followed.extend((source, module) for output, source in outputs if output is inputs[0])

    modules, convolutions, followers = list(backbone.modules()), _convolutions(), _followers()
    hooks = [m.register_forward_hook(remember) for m in modules if type(m) in convolutions]
    hooks += [m.register_forward_pre_hook(look_back) for m in modules if type(m) in followers]
    backbone(image)
    for hook in hooks:
        hook.remove()
    calls = [source for _, source in outputs]
    for convolution, norm in followed:
        alone = calls.count(convolution) == 1 and sum(norm in pair for pair in followed) == 1
        if alone and _whole(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)):
            yield cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)


def _whole(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether the formula applies: padding with zeros, and a BatchNorm with statistics and affine parameters."""
    return convolution.padding_mode == "zeros" and norm.track_running_stats and norm.affine


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    convolution.followers = (norm,)  # type: ignore[assignment]  # in a tuple, else it would become a part
    convolution.__class__, norm.__class__ = _convolutions()[type(convolution)], _followers()[type(norm)]


def _unfold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    convolution.__class__, norm.__class__ = type(convolution).__mro__[1], type(norm).__mro__[1]
    del convolution.__dict__["followers"]
