"""Dropout drawn image by image, so that a mask does not depend on how a batch is cut."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from dml.randomness import derive_seed, torch_seed

__all__ = ["DropoutNoise", "ImageByImage", "ImageDropout", "draw_dropout_by_image"]

DRAWING = {
    "torch.nn": ("AlphaDropout", "FeatureAlphaDropout", "RReLU"),
    "torchvision.ops": ("DropBlock2d", "DropBlock3d"),
    "timm.layers.drop": ("DropBlock2d",),
    "timm.layers.patch_dropout": ("PatchDropout",),
}
"""Layers that draw in ways of their own, from one tensor whose first axis is that of the images."""


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
        shared_axes: how many of the last axes share one draw: 0 drops single values, -1 all axes but the images', -2
            all, so that a batch is kept or dropped as a whole.
        layer: number of this layer in the model.
        noise: says which images are in the model.

    Shapes:
        (images · k, ...) with the k rows of an image together, as windows of an image are; returned alike. Any other
        shape if ``of_images`` is False, as it is for what all images share, such as a table of positions; the mask is
        then a function of (seed, step, layer).
    """

    def __init__(self, p: float, *, shared_axes: int, layer: int, noise: DropoutNoise) -> None:
        super().__init__()
        self.p, self._shared_axes, self._layer, self._noise = p, shared_axes, layer, noise
        self.of_images = shared_axes > -2

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return values
        shared = {-1: values.ndim - 1, -2: values.ndim}.get(self._shared_axes, self._shared_axes)
        drawn = [*values.shape[: values.ndim - shared], *[1] * shared]
        positions = self._noise.positions
        if self.of_images:
            drawn[0], rest = divmod(len(values), len(positions))
            assert rest == 0, "the first axis holds a whole number of rows of each image"
        masks = [self._draw(p, drawn, values.device) for p in (positions if self.of_images else ["batch"])]
        kept = 1 - self.p or 1.0  # where all is dropped there is nothing to scale up
        return values * torch.cat(masks).to(values.dtype) / kept

    def _draw(self, place: int | str, shape: list[int], device: torch.device) -> Tensor:
        key = derive_seed(self._noise.seed, "dropout", self._noise.step, place, self._layer)
        generator = torch.Generator(device).manual_seed(key)
        return torch.rand(shape, generator=generator, device=device) >= self.p


class ImageByImage(nn.Module):
    """A layer that draws in a way of its own, given one image at a time, seeded by (seed, step, position, layer).

    Shapes:
        (images · k, ...) as in `ImageDropout`; what the layer returns for each image is joined again.
    """

    def __init__(self, drawing: Any, *, layer: int, noise: DropoutNoise) -> None:
        super().__init__()
        self.drawing, self._layer, self._noise = drawing, layer, noise
        if hasattr(drawing, "inplace"):
            drawing.inplace = False  # autograd allows no change in place of a part of a tensor

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            changed: Tensor = self.drawing(values)
            return changed
        positions = self._noise.positions
        images = zip(positions, values.chunk(len(positions)), strict=True)
        return torch.cat([self._draw(position, rows) for position, rows in images])

    def _draw(self, position: int, rows: Tensor) -> Tensor:
        with torch_seed(self._noise.seed, "dropout", self._noise.step, position, self._layer):
            changed: Tensor = self.drawing(rows)
        return changed


def draw_dropout_by_image(model: nn.Module, seed: int) -> DropoutNoise:
    """Replace the layers of a model that drop values, channels, blocks, patches or whole paths, in place.

    Attention that drops inside a fused operator, as timm's does, is told to drop in its own layer. What is left
    draws from torch's global generators, and `layers_that_draw` finds it.
    """
    noise, layer = DropoutNoise(seed), 0
    parents: list[Any] = list(model.modules())
    for parent in parents:
        if getattr(parent, "fused_attn", False) and getattr(getattr(parent, "attn_drop", None), "p", 0):
            parent.fused_attn = False
        for name, child in list(parent.named_children()):
            if (replayed := _replayed(child, layer, noise)) is not None:
                setattr(parent, name, replayed)
                layer += 1
    return noise


def _replayed(child: Any, layer: int, noise: DropoutNoise) -> nn.Module | None:
    """What takes the place of a layer that draws; None for other layers."""
    if any(type(child) in _classes(module, *names) for module, names in DRAWING.items()):
        return ImageByImage(child, layer=layer, noise=noise)
    shared_axes = _shared_axes(child)
    if shared_axes is None:
        return None
    p = getattr(child, "drop_prob", None) or getattr(child, "p", None) or 0.0
    return ImageDropout(p, shared_axes=shared_axes, layer=layer, noise=noise)


def _shared_axes(layer: Any) -> int | None:
    """The ``shared_axes`` of the `ImageDropout` that does the same; None for a layer that drops nothing."""
    if isinstance(layer, _classes("timm.layers.drop", "DropPath")):
        return -1
    if isinstance(layer, _classes("torchvision.ops", "StochasticDepth")):
        return -1 if layer.mode == "row" else -2
    kinds: dict[type, int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
    return kinds.get(type(layer))


def _classes(module: str, *names: str) -> tuple[type[Any], ...]:
    """Classes of a library; none if it was never imported, so that no layer is of them."""
    return tuple(getattr(sys.modules[module], name) for name in names) if module in sys.modules else ()
