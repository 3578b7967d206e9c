"""Image files to vectors, as the model makes them that this folder was exported from.

    python embed.py a.jpg b.jpg --out vectors.npy    # float32 (n, D), unit vectors, in the order of the files
    python embed.py --check                          # the golden images, against the vectors that they should have

Needs numpy, Pillow and onnxruntime, and the files beside it. In Python: ``from embed import embed``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.data.metadata import jpeg_orientation, noted_orientation, upright, without_metadata

__all__ = ["Mixed", "Unreadable", "decode", "embed", "open_model", "run_model", "square"]

FOLDER = Path(__file__).resolve().parent
MOST_PIXELS = int(os.environ.get("DML_MAX_PIXELS", 2**28 // 3))  # a few kilobytes can unpack to gigabytes
LONGEST = 100  # times its short side; of what is longer the middle is taken
RUN_BY_OTHERS = ("EPS", "WMF")  # formats that Pillow hands to another program
BITS = 15  # of a weight in `resample`


class Unreadable(Exception):
    """A file that is no image, or too large."""


class Mixed(Exception):
    """Files of two exports."""


def embed(
    files: Sequence[str | os.PathLike[str] | bytes], *, folder: Path = FOLDER, batch_size: int = 64
) -> NDArray[np.float32]:
    """The unit vectors (n, D) of image files, given by their paths or by their content.

    Raises Unreadable for one that cannot be read; the message names it. Raises Mixed if the folder holds parts of two
    exports.
    """
    session = open_model(folder / "model.onnx")
    settings = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    _refuse_another(session, settings)
    vectors = [np.empty((0, settings["dimension"]), np.float32)]
    vectors += [run_model(session, batch)["vectors"] for batch in _batches(files, settings, batch_size)]
    return np.concatenate(vectors)


def open_model(path: Path) -> Any:
    """A session of onnxruntime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_model(session: Any, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """``vectors`` (B, D), and ``weights`` (B, N) and ``attributes`` (B, M) if the model has them, of images.

    images: (B, 3, size, size), RGB, as `square` makes them.
    """
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def _refuse_another(session: Any, settings: dict[str, Any]) -> None:
    graph = session.get_modelmeta().custom_metadata_map.get("fingerprint", "none")
    if graph != settings["model"]["fingerprint"]:
        raise Mixed(
            f"model.onnx is of the model {graph[:12]}, and preprocess.json of {settings['model']['fingerprint'][:12]}: "
            "take both from one export"
        )


def _batches(files: Sequence[Any], settings: dict[str, Any], size: int) -> Iterator[NDArray[np.uint8]]:
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), size):
            part = files[start : start + size]
            names = [f"image {number}" for number in range(start, start + len(part))]
            yield np.stack(
                list(pool.map(lambda file, name: square(decode(file, name), settings), part, names))
            )


def decode(file: str | os.PathLike[str] | bytes, name: str = "the image") -> NDArray[np.uint8]:
    """An image file as (H, W, 3) RGB: upright, 16 bits scaled to 8, transparency laid on white.

    name: of what is given by its content, for the message.

    Raises Unreadable if it cannot be read.
    """
    name = name if isinstance(file, bytes) else str(file)
    try:
        file = file if isinstance(file, bytes) else Path(file).read_bytes()
        orientation = jpeg_orientation(file) if file.startswith(b"\xff\xd8") else None
        try:
            return _decode(file, orientation)
        except Exception:  # metadata that nobody can read may not cost a sound image
            if (bare := without_metadata(file)) == file:
                raise
            return _decode(bare, orientation)
    except Exception as error:
        raise Unreadable(
            f"{name} cannot be read as an image: {error}; replace it, or leave it out"
        ) from error


def _decode(content: bytes, orientation: int | None) -> NDArray[np.uint8]:
    Image.init()
    with Image.open(
        io.BytesIO(content), formats=[name for name in Image.ID if name not in RUN_BY_OTHERS]
    ) as image:
        _check_size(image.height, image.width)
        image.load()
        if orientation is None:
            orientation = 1 if image.format == "TIFF" else noted_orientation(image.info)  # Pillow turns those
        return upright(_colours(image), orientation)


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)
    return np.asarray(image.convert("RGB"))


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise Unreadable(
            f"its pixels are {values.dtype} from {values.min()} to {values.max()}, not 0 to 65535"
        )
    scaled: NDArray[np.uint8] = (values / 257).round().astype(np.uint8)
    return scaled


def _check_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS:
        raise Unreadable(
            f"{width:,} × {height:,} pixels, and more than {MOST_PIXELS:,} are refused; if you trust it and have the "
            "memory, raise the limit by the variable DML_MAX_PIXELS"
        )


def square(image: NDArray[np.uint8], settings: dict[str, Any]) -> NDArray[np.uint8]:
    """What the model sees of a decoded image: (3, size, size), the centre square of the image resized.

    settings: the content of preprocess.json.
    """
    size, resize = settings["size"], settings["resize"]
    if settings["whole_pixels"]:
        pixels = _resize_short_side(image, resize)
        top, left = (round((length - size) / 2) for length in pixels.shape[:2])
        pixels = pixels[top : top + size, left : left + size]
    else:
        height, width = image.shape[:2]
        side = size / resize * min(width, height)
        left, top = max((width - side) / 2, 0), max((height - side) / 2, 0)
        box = left, top, min((width - side) / 2 + side, width), min((height - side) / 2 + side, height)
        resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(resized)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resize_short_side(image: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    short = min(image.shape[:2])
    height, width = (short_side * min(length, LONGEST * short) // short for length in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    _check_size(height, width)
    if max(image.shape[:2]) > LONGEST * short:
        top, left = (max(0, length - LONGEST * short) // 2 for length in image.shape[:2])
        image = image[top : top + LONGEST * short, left : left + LONGEST * short]
    return resample(resample(image, 1, width), 0, height)


def resample(image: NDArray[np.uint8], axis: int, length: int) -> NDArray[np.uint8]:
    """One side at another length, bilinear with antialiasing: to the bit what torch does with bytes, which is not
    what Pillow does.
    """
    before = image.shape[axis]
    if before == length:
        return image
    scale = before / length
    reach = max(scale, 1.0)
    centres = scale * (np.arange(length) + 0.5)
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + reach + 0.5).astype(np.int64), before)
    places = first[:, None] + np.arange((last - first).max())
    weights = (1 - np.abs((places - centres[:, None] + 0.5) / reach)).clip(0) * (places < last[:, None])
    weights /= weights.sum(1, keepdims=True)
    bits = next((n for n in range(22) if int(0.5 + weights.max() * 2 ** (n + 1)) >= 2**BITS), 22)
    whole = (weights * 2**bits + 0.5).astype(np.int32)
    lines = np.moveaxis(image, axis, 0).astype(np.int32)
    total = np.full((length, *lines.shape[1:]), 1 << (bits - 1), np.int32)
    for tap in range(places.shape[1]):
        total += whole[:, tap, None, None] * lines[places[:, tap].clip(max=before - 1)]
    return np.moveaxis((total >> bits).clip(0, 255).astype(np.uint8), 0, axis)


def _check() -> None:
    allowed = json.loads((FOLDER / "preprocess.json").read_text(encoding="utf-8"))["golden_difference"]
    golden = sorted((FOLDER / "golden").glob("[0-9].*"))
    difference = np.abs(embed(golden) - np.load(FOLDER / "golden" / "vectors.npy")).max()
    print(f"golden images: vectors differ by {difference:.1e} at most, and {allowed:g} is allowed")
    if not difference <= allowed:
        sys.exit("this machine decodes, resizes or computes otherwise than the one that made the export")


def main() -> None:
    parser = argparse.ArgumentParser(description="Embed image files by the model in this folder.")
    parser.add_argument("images", nargs="*", metavar="IMAGE")
    parser.add_argument("--out", metavar="FILE.npy", help="where the vectors are written, float32 (n, D)")
    parser.add_argument("--batch-size", type=int, default=64, help="images in the model at a time")
    parser.add_argument("--check", action="store_true", help="embed the golden images and compare")
    typed = parser.parse_args()
    if typed.check:
        return _check()
    if not typed.images or not typed.out or typed.batch_size < 1:
        parser.error("give image files, and --out FILE.npy for their vectors")
    try:
        vectors = embed(typed.images, batch_size=typed.batch_size)
    except (Unreadable, Mixed) as error:
        sys.exit(f"error: {error}; nothing was written")
    with open(typed.out, "wb") as file:
        np.save(file, vectors)
    print(f"{typed.out}: {len(vectors)} vectors of {vectors.shape[1]} numbers")


if __name__ == "__main__":
    main()
