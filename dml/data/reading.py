"""Images from wherever they come, decoded by threads ahead of whoever needs them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.data.decoding import decode, decode_bytes
from dml.errors import FileError, InputError, WrongTypeError

__all__ = ["ImageSource", "decode_source", "read_ahead"]

ImageSource = Image.Image | str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
MOST_THREADS = 8
T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], work: Callable[[T], R], *, ahead: int) -> Iterator[R]:
    """What `work` gives for each item, in their order, computed by threads for at most `ahead` items that wait.

    Decoding and resizing let other threads run meanwhile, so processes would be no faster, and would have to be sent
    the images. What `work` raises is raised in its turn.
    """
    from joblib import cpu_count  # knows the limits of containers; 0.2 s to import

    pool = ThreadPoolExecutor(min(MOST_THREADS, int(cpu_count())))
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def decode_source(source: ImageSource, number: int) -> NDArray[np.uint8]:
    """A path, a Pillow image, the bytes of a file or an open file, as (H, W, 3) uint8, RGB; see `dml.data.decode`.

    Args:
        number: its place among others, by which a message names what has no path.

    Raises:
        FileError: it cannot be read as an image; the message names it.
        WrongTypeError: it is none of these.
    """
    if isinstance(source, (str, os.PathLike)):
        return decode(Path(source))
    name = f"image {number}"
    if isinstance(source, Image.Image):
        return _decode_pillow(source, f"{name} ({getattr(source, 'filename', '') or 'a Pillow image'})")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_bytes(bytes(source), f"{name} (bytes)").pixels
    if not callable(getattr(source, "read", None)):
        raise WrongTypeError(
            f"{name} is of type {type(source).__name__}; accepted: a path, a Pillow image, bytes of an image file, or "
            "a file that is open for reading bytes"
        )
    name += f" ({getattr(source, 'name', 'an open file')})"
    try:
        content = source.read()
    except (OSError, ValueError) as error:
        raise FileError(f"{name} cannot be read: {error}; open it again") from error
    if not isinstance(content, bytes):
        raise WrongTypeError(f"{name} gives text; open it for reading bytes, as in open(path, 'rb')")
    return decode_bytes(content, name).pixels


def _decode_pillow(image: Image.Image, name: str) -> NDArray[np.uint8]:
    try:
        return decode(image)
    except InputError as error:
        raise FileError(f"{name} is refused: {error}") from error
    except OSError as error:
        raise FileError(f"{name} cannot be read as an image: {error}; replace or remove it") from error
