"""From an image, in whatever form cameras and programs write it, to pixels."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dml.data.metadata import ORIENTATION, jpeg_orientation, noted_orientation, upright, without_metadata
from dml.errors import FileError, InputError, UserError

__all__ = [
    "LONGEST",
    "Decoded",
    "check_short_side",
    "decode",
    "decode_bytes",
    "decode_file",
    "is_drawn_out",
    "largest_picture",
    "resample",
    "resize_named",
    "resize_short_side",
    "resized_size",
]

JPEG = b"\xff\xd8"
TURNED_BY_PILLOW = ("TIFF",)  # when it loads them
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
RUN_BY_OTHERS = ("EPS", "WMF")  # formats that Pillow hands to another program
PNG_DEPTH, TIFF_DEPTH = 24, 258  # a place in the file, and a tag
VARIABLE = "DML_MAX_PIXELS"
MOST_PIXELS = 2**28 // 3  # what Pillow warns of: 256 MiB of RGB
LONGEST = 100  # times its short side


class Decoded(NamedTuple):
    """An image, and how it was written.

    pixels:      (H, W, 3) uint8, RGB, upright.
    mode:        what Pillow calls its colours.
    orientation: as EXIF numbers it; 1 is upright.
    is_deep:     it had 16 bits.
    """

    pixels: NDArray[np.uint8]
    mode: str = "RGB"
    orientation: int = 1
    is_deep: bool = False


def decode(picture: Image.Image | str | Path) -> NDArray[np.uint8]:
    """An image or a file of one as (H, W, 3) uint8, RGB.

    Photographs are turned upright by their EXIF data, 16 bits are scaled to 8, and transparent images are laid
    on white.

    Raises:
        FileError: a file that is missing, cut off, too large or no image; the message names it.
        InputError: more pixels than `largest_picture`, or values that have no place in 0..255.
    """
    return _convert_in_memory(picture) if isinstance(picture, Image.Image) else decode_file(picture).pixels


def decode_file(path: str | Path) -> Decoded:
    """The image in a file; see decode."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read as an image: {error}; replace or remove it") from error
    return decode_bytes(content, str(path))


def decode_bytes(content: bytes, name: str) -> Decoded:
    """The image in the content of a file, wherever it lies; see decode. The name is for the message."""
    try:
        return _decode(content)
    except MemoryError:
        raise
    except Exception as error:  # decoders have no errors of their own, and meet all that strangers write
        raise FileError(f"{name} {_why_not(error)}") from error


def _why_not(error: Exception) -> str:
    if isinstance(error, BOMBS):
        return f"is refused as an image: {error} {_how_to_raise()}"
    if isinstance(error, UserError):  # which says what to do
        return f"cannot be read as an image: {error}"
    return f"cannot be read as an image: {error}; replace or remove it"


def _decode(content: bytes) -> Decoded:
    orientation = jpeg_orientation(content) if content.startswith(JPEG) else None
    plain = _decode_plain_jpeg(content)  # the common case, in less time; the bits are those of the other way
    if plain is not None:
        pixels, mode = plain
        return Decoded(upright(pixels, orientation or 1), mode, orientation or 1)
    try:
        return _decode_by_pillow(content, orientation)
    except (MemoryError, UserError, *BOMBS):
        raise
    except Exception:
        if (bare := without_metadata(content)) != content:
            return _decode_by_pillow(bare, orientation)
        raise


def _decode_by_pillow(content: bytes, orientation: int | None) -> Decoded:
    with Image.open(io.BytesIO(content), formats=_formats()) as opened:
        is_deep, mode = _is_deep(opened, content), opened.mode
        pixels = _convert(opened)
        if orientation is None:
            orientation = 1 if opened.format in TURNED_BY_PILLOW else noted_orientation(opened.info)
    return Decoded(upright(pixels, orientation), mode, orientation, is_deep)


def _is_deep(opened: Image.Image, content: bytes) -> bool:
    """Whether it has 16 bits; of colours Pillow keeps the upper eight and says nothing."""
    if opened.format == "PNG":
        return content[PNG_DEPTH] == 16
    tags = getattr(opened, "tag_v2", {})
    return opened.mode.startswith("I") or 16 in tags.get(TIFF_DEPTH, ())


def _convert_in_memory(image: Image.Image) -> NDArray[np.uint8]:
    pixels = _convert(image)
    if getattr(image, "format", None) in TURNED_BY_PILLOW:
        return pixels
    try:
        orientation = image.getexif().get(ORIENTATION)  # which the caller may have set
    except Exception:  # of a tag beside it
        orientation = None
    return upright(pixels, orientation or noted_orientation(image.info))


def largest_picture() -> int:
    """The number of pixels above which an image is refused: 89,478,485, or what DML_MAX_PIXELS says.

    A few kilobytes can unpack to gigabytes, so a limit is what keeps a stranger's file from filling the memory.

    Raises:
        InputError: the variable is no whole number above 0.
    """
    said = os.environ.get(VARIABLE, str(MOST_PIXELS))
    if not said.isdecimal() or not int(said):
        raise InputError(f"{VARIABLE}={said} is no number of pixels: give a whole number above 0")
    return int(said)


def _check_size(height: int, width: int, what: str) -> None:
    if height * width > largest_picture():
        raise InputError(
            f"{what} {width:,} × {height:,} pixels, and more than {largest_picture():,} are refused. {_how_to_raise()}"
        )


def _how_to_raise() -> str:
    return f"If you trust it and have the memory, raise the limit by the variable {VARIABLE}"


def _formats() -> list[str]:
    """All that Pillow reads by itself; it learns a raised limit, which it has too, on the way."""
    Image.init()
    if VARIABLE in os.environ:
        Image.MAX_IMAGE_PIXELS = largest_picture()
    return [name for name in Image.ID if name not in RUN_BY_OTHERS]


def check_short_side(short_side: int | None) -> None:
    """Raise InputError for a short side that is no number of pixels."""
    if short_side is not None and short_side < 1:
        raise InputError(
            f"transform.short_side={short_side} must be a positive number of pixels; "
            "null leaves the images at their size"
        )


def resize_named(image: NDArray[np.uint8], short_side: int | None, name: object) -> NDArray[np.uint8]:
    """As resize_short_side, with the name of the image in the error.

    Raises:
        FileError: the result would be larger than an image may be.
    """
    try:
        return resize_short_side(image, short_side)
    except ValueError as error:
        raise FileError(f"{name}: {error}") from error


def resize_short_side(image: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """The image (H, W, 3) with its short side at ``short_side`` pixels, the long one cut to a whole number.

    The image itself where it has that size already, or if ``short_side`` is None. Of an image that is more than
    LONGEST times as long as wide the middle is taken, which is where both transforms look: a line of a few thousand
    pixels would otherwise become gigabytes.
    """
    height, width = image.shape[:2]
    if short_side is None or (height, width) == (size := resized_size(height, width, short_side)):
        return image
    return resample(_middle(image), size).permute(1, 2, 0).contiguous().numpy()


def resized_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """The height and width that resize_short_side gives an image of these.

    Raises:
        InputError: they have more pixels than `largest_picture`.
    """
    if short_side is None:
        return height, width
    short = min(height, width)
    scaled_height, scaled_width = (
        short_side * min(length, LONGEST * short) // short for length in (height, width)
    )
    size = scaled_height, scaled_width
    if size != (height, width):
        what = f"with its short side at {short_side} pixels, an image of {width:,} × {height:,} would have"
        _check_size(*size, what)
    return size


def is_drawn_out(height: int, width: int) -> bool:
    """Whether an image is more than LONGEST times as long as wide."""
    return max(height, width) > LONGEST * min(height, width)


def _middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if not is_drawn_out(height, width):
        return image
    longest = LONGEST * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return np.ascontiguousarray(image[top : top + longest, left : left + longest])


def resample(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """The image (H, W, 3) at another size (height, width), with antialiasing: (3, height, width) uint8."""
    writeable = image if image.flags.writeable else image.copy()  # torch has no tensors that are read-only
    pixels = torch.from_numpy(writeable)[None].permute(
        0, 3, 1, 2
    )  # channels last, which is also the faster way
    return F.interpolate(pixels, size=size, mode="bilinear", antialias=True)[0]


def _decode_plain_jpeg(content: bytes) -> tuple[NDArray[np.uint8], str] | None:
    """A sound JPEG as it lies, and its mode; None for any other file, which includes the broken ones."""
    if not content.startswith(JPEG):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "RGB", "Gray"):
            return None
    except ValueError:
        return None
    _check_size(height, width, "it has")
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content)
    except ValueError:
        return None
    return pixels, "L" if colours == "Gray" else "RGB"


def _convert(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels as they lie."""
    _check_size(image.height, image.width, "it has")
    image.load()
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels)
    return np.asarray(image.convert("RGB"))


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of 16 bits scaled, not cut off as convert() would."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" or low < 0 or high > 65535:
        raise InputError(
            f"its pixels are {values.dtype} from {low} to {high}; accepted: 8 bits, or 16 bits from 0 to 65535: "
            "save it in one of these"
        )
    scaled: NDArray[np.uint8] = (values / 257).round().astype(np.uint8)
    return scaled
