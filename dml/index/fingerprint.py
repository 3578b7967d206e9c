"""Which model made some vectors: what an index, a threshold and an export belong to.

Two models with one fingerprint have the same weights, size of images and dimension. What else could move a vector, such
as another sharpness of the pooling, another way to resize or another release of a library that decodes, shows in the
vectors of golden images, which are kept with the fingerprint.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dml.model import EmbeddingModel
from dml.randomness import numpy_generator

__all__ = ["GOLDEN_TOLERANCE", "draw_golden_images", "fingerprint_of", "golden_difference"]

GOLDEN_TOLERANCE = 1e-3
"""The largest distance of a golden image's vector to the one that was kept. Another processor adds floats in another
order, which moves it by 1e-6."""

ORIENTATION = 0x0112  # the field of EXIF


def fingerprint_of(model: EmbeddingModel) -> str:
    """64 hexadecimal digits of the weights, the size and normalisation of what they see, and the dimension of a model.

    How an image is resized has no part in it: the settings of that have names, which another release may change, and
    pixels, which another processor may round. The golden images tell.
    """
    digest = hashlib.sha256()
    state = dict(model.state_dict()) | {"mean": model.mean, "std": model.std}
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    square = model.preprocess(np.asarray(_drawing(0, 96, 64)))
    digest.update(
        f"sees {tuple(square.shape)} bgr={model.bgr} dimension={model.projection.out_features}".encode()
    )
    return digest.hexdigest()


def draw_golden_images() -> list[bytes]:
    """Five files of drawn images, one of each kind that a decoder could read in another way."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    clear = Image.merge("RGBA", (*_drawing(0, 96, 64).split(), _drawing(1, 96, 64).getchannel("R")))
    deep = Image.fromarray(np.asarray(_drawing(2, 70, 90).convert("L")).astype(np.uint16) * 257)
    return [
        _encoded(_drawing(3, 320, 240), "JPEG", quality=90),
        _encoded(_drawing(4, 200, 300), "JPEG", quality=75, exif=exif),
        _encoded(_drawing(5, 150, 150).convert("CMYK"), "JPEG", quality=90),
        _encoded(clear, "PNG"),
        _encoded(deep, "PNG"),
    ]


def golden_difference(model: EmbeddingModel, images: Sequence[bytes], vectors: NDArray[np.float32]) -> float:
    """The largest distance between a vector of a golden image now and the one that was kept."""
    now = model.embed(images).numpy()
    return float(np.linalg.norm(now - vectors, axis=1).max()) if now.shape == vectors.shape else np.inf


def _drawing(number: int, width: int, height: int) -> Image.Image:
    """Blots of colour, with edges and slopes."""
    generator = numpy_generator("golden", number)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = coarse.resize((width, height), Image.Resampling.BICUBIC)
    corner = coarse.resize((width // 2, height // 2), Image.Resampling.NEAREST)
    smooth.paste(corner, (width // 4, height // 4))
    return smooth


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
