"""Dropout drawn image by image, so that a mask does not depend on how a batch is cut."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from dml.randomness import derive_seed

__all__ = ["DropoutNoise", "ImageDropout", "draw_dropout_by_image"]


class DropoutNoise:
    """Which images are in the model, shared by all its dropout layers; set before each forward pass."""

    def __init__(self, seed: int) -> None:
        self.seed, self.step, self.positions = seed, 0, range(0)

    def at(self, step: int, positions: range) -> None:
        """The images of the next forward pass: their positions in the global batch of a step."""
        self.step, self.positions = step, positions


class ImageDropout(nn.Module):
    """Inverted dropout whose mask for an image is a function of (seed, step, position, layer).

    Args:
        p: probability that a value is dropped.
        shared_axes: how many of the last axes share one draw: 0 drops single values, -1 all axes but the images'.
        layer: number of this layer in the model.
        noise: says which images are in the model.

    Shapes:
        (images · k, ...) with the k rows of an image together, as windows of an image are; returned alike.
    """

    def __init__(self, p: float, *, shared_axes: int, layer: int, noise: DropoutNoise) -> None:
        super().__init__()
        self.p, self._shared_axes, self._layer, self._noise = p, shared_axes, layer, noise

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return values
        positions = self._noise.positions
        rows, rest = divmod(len(values), len(positions))
        assert rest == 0, "the first axis holds a whole number of rows of each image"
        shared = values.ndim - 1 if self._shared_axes < 0 else self._shared_axes
        drawn = [rows, *values.shape[1 : values.ndim - shared], *[1] * shared]
        masks = [self._draw(position, drawn, values.device) for position in positions]
        kept = 1 - self.p or 1.0  # where all is dropped there is nothing to scale up
        return values * torch.cat(masks).to(values.dtype) / kept

    def _draw(self, position: int, shape: list[int], device: torch.device) -> Tensor:
        key = derive_seed(self._noise.seed, "dropout", self._noise.step, position, self._layer)
        generator = torch.Generator(device).manual_seed(key)
        return torch.rand(shape, generator=generator, device=device) >= self.p


def draw_dropout_by_image(model: nn.Module, seed: int) -> DropoutNoise:
    """Replace the layers of a model that drop values, channels or whole paths, in place."""
    noise, layer = DropoutNoise(seed), 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (shared_axes := _shared_axes(child)) is not None:
                p = getattr(child, "drop_prob", None) or getattr(child, "p", None) or 0.0
                setattr(parent, name, ImageDropout(p, shared_axes=shared_axes, layer=layer, noise=noise))
                layer += 1
    return noise


def _shared_axes(layer: Any) -> int | None:
    """How many of the last axes of its input a layer treats alike, -1 for all; None for a layer that drops nothing."""
    if isinstance(layer, DropPath) or (isinstance(layer, StochasticDepth) and layer.mode == "row"):
        return -1
    kinds: dict[type, int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
    return kinds.get(type(layer))
