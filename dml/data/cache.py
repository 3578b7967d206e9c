"""The deterministic half of the transform, kept: all decoded and resized images in one memory-mapped file.

Layout of the file: the pixels of every image one after another, then a table (n, 3) of int64 with offset, height
and width of each, then the footer: magic number, n and the key. The key is a hash of all that the pixels depend on, so
an image that was changed, or one from another place, leads to another file. A file gets its name only when it is
whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
import simplejpeg
import torch
from numpy.typing import NDArray

from dml.data.encoded_images import EncodedImages
from dml.data.image_files import ImageFiles
from dml.errors import FileError
from dml.locks import locked

__all__ = ["CachedImages", "cached", "content_key"]

log = logging.getLogger(__name__)

MAGIC = b"dmlcache"
FOOTER = struct.Struct("<8sQ32s")
AT_A_TIME = 256  # images that are held in memory while the file is built


class CachedImages:
    """The images of a finished cache file, read from the disk as they are asked for.

    It travels to a data worker as a path, not as pixels.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        offset, height, width = self._table[row]
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def __len__(self) -> int:
        return len(self._table)

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return np.memmap(self.path, np.uint8, mode="c")  # torch wants it writable; writing stays in memory

    @cached_property
    def _table(self) -> NDArray[np.int64]:
        _, count, _ = FOOTER.unpack(self._pixels[-FOOTER.size :].tobytes())
        end = len(self._pixels) - FOOTER.size
        return np.frombuffer(self._pixels[end - count * 24 : end].tobytes(), np.int64).reshape(count, 3)


def cached(images: ImageFiles | EncodedImages, folder: str | Path, name: str) -> CachedImages:
    """The same images from a cache file in a folder, which is built if it is not there.

    A build that was interrupted starts anew; of several processes one builds and the others wait for it.

    Raises:
        FileError: an image cannot be read, or the cache cannot be written.
    """
    path = Path(folder) / name
    try:
        key = content_key(images)
        path = Path(folder) / f"{name}-{key.hex()[:16]}.pixels"
        if not _is_whole(path, key):
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.with_suffix(".lock")) as alone:
                if not _is_whole(path, key):  # another process may have built it while this one waited
                    _build(images, path, key, ".partial" if alone else f".{os.getpid()}.partial")
    except OSError as error:
        raise FileError(
            f"the cache {path} could not be built: {error}; mend that, or choose dataset.cache_folder=DIR, "
            "or do without by dataset.cache=false"
        ) from error
    return CachedImages(path)


def content_key(images: ImageFiles | EncodedImages, rows: Sequence[int] | None = None) -> bytes:
    """A hash of what the pixels depend on: the files as they are now, the size, and what decodes and resizes them.

    rows: of files, those that count; None for all.
    """
    versions = (torch.__version__, simplejpeg.__version__, PIL.__version__)
    how = [images.short_side, versions, torch.backends.cpu.get_cpu_capability()]
    if isinstance(images, EncodedImages):
        return hashlib.sha256(json.dumps(how).encode() + images.encoded.identity).digest()
    digest = hashlib.sha256(json.dumps([str(images.folder.resolve()), *how]).encode())
    for file in images.files if rows is None else (images.files[row] for row in rows):
        digest.update(json.dumps([file, *_state(images.folder / file)]).encode())
    return digest.digest()


def _state(path: Path) -> tuple[int, ...]:
    """Numbers of which one changes with the content: a copy may keep size and time, but not inode or time of change."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_whole(path: Path, key: bytes) -> bool:
    if not path.is_file() or path.stat().st_size < FOOTER.size:
        return False
    with path.open("rb") as file:
        file.seek(-FOOTER.size, os.SEEK_END)
        magic, _, stored = FOOTER.unpack(file.read())
    return bool(magic == MAGIC and stored == key)


def _build(images: ImageFiles | EncodedImages, path: Path, key: bytes, suffix: str) -> None:
    log.info("building the cache %s of %d images, once", path, len(images))
    partial = path.with_suffix(suffix)
    try:
        with partial.open("wb") as file:
            table = []
            for image in _decoded(images):
                table.append((file.tell(), *image.shape[:2]))
                file.write(image.tobytes())
            file.write(np.array(table, np.int64).reshape(-1, 3).tobytes())
            file.write(FOOTER.pack(MAGIC, len(table), key))
            file.flush()
            os.fsync(file.fileno())
        if content_key(images) != key:
            raise FileError("images changed while they were read; start again")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _decoded(images: ImageFiles | EncodedImages) -> Iterator[NDArray[np.uint8]]:
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), AT_A_TIME):
            yield from pool.map(images.__getitem__, range(start, min(start + AT_A_TIME, len(images))))
