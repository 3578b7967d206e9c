"""What a model looks at: the weights of its pooling laid out over the image, and those of its strongest prototypes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dml.contracts import HasPlan
from dml.errors import InputError
from dml.functional.overlay import FULL, departure, tint
from dml.model import EmbeddingModel
from dml.modes import evaluation_mode
from dml.types import Pooled

__all__ = [
    "DrawnMaps",
    "NoGridError",
    "NoWeightsError",
    "WeightMaps",
    "drawn_maps",
    "weight_maps",
]

MARGIN = 2  # white pixels around each image of a picture


class NoWeightsError(InputError):
    """The pooling gives no location a weight."""


class NoGridError(InputError):
    """The locations have no place in the image."""


class WeightMaps(NamedTuple):
    """Where in each image the vector comes from; K strongest prototypes, h × w locations.

    All maps are multiples of the uniform weight: N times a share of each location, so with mean 1. That of a
    prototype that receives nothing is 0.

    images:         (B, 3, H, W) uint8, as the model sees them.
    weights:        (B, h, w) of the locations in the vector.
    prototypes:     (B, K) int64, those with the largest attributes in the image, the largest first; K is 0 for a
                    pooling without a transport plan.
    attributes:     (B, K) share of each in the attributes of the image.
    prototype_maps: (B, K, h, w) of the locations in the mass that the prototype receives.
    """

    images: Tensor
    weights: Tensor
    prototypes: Tensor
    attributes: Tensor
    prototype_maps: Tensor


class DrawnMaps(NamedTuple):
    """pixels: (3, height, width) uint8; departures: the largest from uniform, for each kind of map."""

    pixels: Tensor
    departures: dict[str, float]


@torch.no_grad()
def weight_maps(model: EmbeddingModel, images: Tensor, *, strongest: int) -> WeightMaps:
    """The maps of images (B, 3, H, W) uint8, in evaluation mode, on the CPU; the mode of the model is restored.

    strongest: K, at most; fewer if there are fewer prototypes.

    Raises:
        NoWeightsError: the pooling does not weigh locations.
        NoGridError: the backbone gives tokens that are no square.
    """
    with evaluation_mode(model):
        features = model.features(images.to(model.projection.weight.device))
        pooled: Pooled = model.pooling(features)
        pooling = model.pooling
        plan = pooling.plan(features).plan.cpu() if isinstance(pooling, HasPlan) else None
    if pooled.weights is None:
        raise NoWeightsError(
            f"{type(model.pooling).__name__} gives its locations no weights, so there is no map of them"
        )
    height, width = _grid(features)
    weights = height * width * pooled.weights.cpu().reshape(-1, height, width)
    if plan is None:
        none = weights.new_zeros(len(images), 0)
        return WeightMaps(
            images, weights, none.long(), none, none[..., None, None].expand(-1, -1, height, width)
        )
    mass = plan.sum(1)  # (B, M)
    attributes, prototypes = (mass / mass.sum(1, keepdim=True)).topk(min(strongest, mass.shape[1]), dim=1)
    chosen = plan.mT.take_along_dim(prototypes.unsqueeze(2), dim=1)  # (B, K, N)
    received = chosen.sum(2, keepdim=True).clamp_min(torch.finfo(chosen.dtype).tiny)
    maps = (height * width * chosen / received).reshape(*prototypes.shape, height, width)
    return WeightMaps(images, weights, prototypes, attributes, maps)


def drawn_maps(maps: WeightMaps, *, side: int) -> DrawnMaps:
    """A column for each image: itself, its weights over it, and the maps of its strongest prototypes.

    side: pixels of each image in the picture, at most; smaller ones stay as they are.
    """
    scale = min(1.0, side / max(maps.images.shape[-2:]))
    size = [max(1, round(scale * length)) for length in maps.images.shape[-2:]]
    images = F.interpolate(maps.images, size, mode="bilinear", antialias=True)
    departures = {"weights": departure(maps.weights)}
    rows = [images, tint(images, maps.weights, FULL)]
    if maps.prototypes.shape[1]:
        departures["prototypes"] = departure(maps.prototype_maps)
        rows += [tint(images, layer, FULL) for layer in maps.prototype_maps.unbind(1)]
    framed = [F.pad(row, [MARGIN] * 4, value=255) for row in rows]
    return DrawnMaps(torch.cat([torch.cat(list(row), dim=2) for row in framed], dim=1), departures)


def _grid(features: Tensor) -> tuple[int, int]:
    """Height and width of the locations; tokens of the square images that this project embeds form a square."""
    if features.ndim == 4:
        return features.shape[2], features.shape[3]
    side = math.isqrt(features.shape[1])
    if side**2 != features.shape[1]:
        raise NoGridError(
            f"the backbone gives {features.shape[1]} tokens, which is no square number, so nobody knows where in the "
            "image they lie: use a backbone that gives a map, or one token per patch of a square image"
        )
    return side, side
