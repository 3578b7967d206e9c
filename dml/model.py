"""Image in, unit vector out: normalisation, backbone, linear map, pooling."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from dml.data import ImageSource, decode_source, read_ahead
from dml.errors import FileError, InputError, WrongTypeError
from dml.modes import evaluation_mode
from dml.progress import progress
from dml.types import Normalisation, Pooled

__all__ = ["EmbeddingModel"]

Preprocess = Callable[[NDArray[np.uint8]], Tensor]


class EmbeddingModel(nn.Module):
    """Unit vectors whose dot product is the similarity of two images.

    The linear map has no bias. It stands before a pooling that weighs embedded locations
    (``pooling.pools_embedded``) and after any other, which for average pooling is the same and cheaper.

    Args:
        backbone, pooling: modules; see `Backbone` and `Pooling` in dml.contracts.
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
    def embed(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 64,
        unreadable: dict[int, str] | None = None,
    ) -> Tensor:
        """Embed images as they are: (n, D) unit vectors, on the CPU.

        Photographs are turned upright by their EXIF data, and transparent images laid on white. Threads decode ahead
        of the model; on a terminal a bar shows how far it is, if it takes long.

        Args:
            images: paths, Pillow images, bytes of image files, or files that are open for reading bytes.
            batch_size: images in the model at a time.
            unreadable: a dict that takes the images which cannot be read, by their place, with the reason. They have
                no row in the result, and the others follow each other. Without it the first of them is an error.

        Raises:
            WrongTypeError: a single image instead of several, or something that is no image.
            InputError: a batch size below 1.
            FileError, InputError: an image that is missing or cannot be read; the message names it.
        """
        if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)) or hasattr(
            images, "read"
        ):
            raise WrongTypeError(
                f"embed takes a list of images, this is a single {type(images).__name__}: write [image]"
            )
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        sources = list(images)
        vectors = [torch.empty(0, self.projection.out_features)]
        squares = self._squares(sources, batch_size, unreadable)
        with evaluation_mode(self), progress("embedding", len(sources)) as advance:
            while batch := list(itertools.islice(squares, batch_size)):
                vectors.append(self.embed_squares(torch.stack(batch)))
                advance(len(batch))
        return torch.cat(vectors)

    @torch.no_grad()
    def embed_squares(self, squares: Tensor) -> Tensor:
        """The vectors (B, D), on the CPU, of images that are preprocessed already: (B, 3, size, size) uint8.

        The model has to be in evaluation mode, as `dml.load_model` gives it.
        """
        pooled: Pooled = self(squares.to(self.projection.weight.device))
        return pooled.vectors.cpu()

    def _squares(
        self, sources: Sequence[ImageSource], ahead: int, unreadable: dict[int, str] | None
    ) -> Iterator[Tensor]:
        """What the model sees of each image, without those that cannot be read if there is a place for their names."""

        def square(number: int) -> Tensor | str:
            try:
                return self.preprocess(decode_source(sources[number], number))
            except (FileError, InputError) as error:
                if unreadable is None:
                    raise
                return str(error)

        for number, found in enumerate(read_ahead(range(len(sources)), square, ahead=ahead)):
            if isinstance(found, Tensor):
                yield found
            elif unreadable is not None:
                unreadable[number] = found

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
