"""Image in, unit vector out: normalisation, backbone, linear map, pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from dml.data import decode
from dml.errors import InputError, WrongTypeError
from dml.modes import evaluation_mode
from dml.types import Normalisation, Pooled

__all__ = ["EmbeddingModel"]

Preprocess = Callable[[NDArray[np.uint8]], Tensor]


class EmbeddingModel(nn.Module):
    """Unit vectors whose dot product is the similarity of two images.

    The linear map has no bias. It stands before a pooling that weighs embedded locations
    (``pooling.pools_embedded``) and after any other, which for average pooling is the same and cheaper.

    Args:
        backbone: normalised images (B, 3, H, W) -> map (B, C, H', W') or tokens (B, N, C); publishes
            ``out_channels`` and ``normalisation``.
        pooling: map or tokens -> Pooled; publishes ``out_channels`` and ``pools_embedded``.
        embedding_dim: D.
        preprocess: a decoded image (H, W, 3) uint8 -> (3, size, size) uint8; kept for whoever uses the model.

    Shapes:
        images (B, 3, H, W) uint8, RGB -> Pooled with unit ``vectors`` (B, D).

    Raises:
        WrongTypeError: images that are not uint8.
    """

    def __init__(
        self, backbone: nn.Module, pooling: nn.Module, *, embedding_dim: int, preprocess: Preprocess
    ) -> None:
        super().__init__()
        channels = backbone.out_channels if pooling.pools_embedded else pooling.out_channels
        self.backbone, self.pooling, self.preprocess = backbone, pooling, preprocess
        self.projection = nn.Linear(cast(int, channels), embedding_dim, bias=False)
        normalisation = cast(Normalisation, backbone.normalisation)
        self.bgr = normalisation.bgr
        self.to(memory_format=torch.channels_last)  # the faster layout for convolutions
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Pooled:
        features = self.features(images)
        pooled: Pooled = self.pooling(features)
        vectors = pooled.vectors if self.pooling.pools_embedded else self.projection(pooled.vectors)
        return pooled.with_vectors(F.normalize(vectors.float(), dim=1))

    def features(self, images: Tensor) -> Tensor:
        """What the pooling sees, (B, D, H', W') or (B, N, D) if it pools embedded locations, else with C for D."""
        features: Tensor = self.backbone(self._normalise(images))
        return self._embed_locations(features) if self.pooling.pools_embedded else features

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image | str | Path], *, batch_size: int = 64) -> Tensor:
        """Embed pictures or files of pictures as they are: (n, D) unit vectors, on the CPU.

        Photographs are turned upright by their EXIF data, and transparent pictures laid on white.

        Raises:
            WrongTypeError: a single picture instead of a list.
            InputError: a batch size below 1.
            FileError: a file that is missing or no picture; the message names it.
        """
        if isinstance(images, (str, Path, Image.Image)):
            raise WrongTypeError(
                f"embed takes a list of pictures, this is a single {type(images).__name__}: write [picture]"
            )
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        device = self.projection.weight.device
        vectors = [torch.empty(0, self.projection.out_features)]
        with evaluation_mode(self):
            for start in range(0, len(images), batch_size):
                squares = [self.preprocess(decode(image)) for image in images[start : start + batch_size]]
                vectors.append(self(torch.stack(squares).to(device)).vectors.cpu())
        return torch.cat(vectors)

    def _normalise(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:
            raise WrongTypeError(
                f"images are {images.dtype}; the model normalises by itself and takes uint8, 0..255, RGB, "
                "as model.preprocess gives them"
            )
        ordered = images.flip(1) if self.bgr else images  # blue first, where the backbone expects it
        pixels = ordered.float()  # a copy, changed in place: new memory for each step takes many times longer
        normalised = pixels.sub_(cast(Tensor, self.mean)).div_(cast(Tensor, self.std))
        return normalised.contiguous(memory_format=torch.channels_last)

    def _embed_locations(self, features: Tensor) -> Tensor:
        weight = self.projection.weight
        if features.dim() == 4:
            return F.conv2d(features, weight[:, :, None, None])
        return F.linear(features, weight)
