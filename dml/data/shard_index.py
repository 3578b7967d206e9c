"""The images of a shard and their places, kept beside the cache so that a shard is looked through once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dml.data.formats import readable_suffixes
from dml.data.shard_labels import Labelled, label_members
from dml.data.shard_members import Member, list_members, read_member
from dml.errors import FileError

__all__ = ["Shard", "look_through", "sample"]

log = logging.getLogger(__name__)

FORMAT = 1
SAMPLES, SAMPLE = 16, 4096  # blocks that are hashed, and their bytes


class Shard(NamedTuple):
    """A tar or zip file.

    path:    of it, absolute.
    state:   its size and time (ns), which tell a reader that it is still the same.
    content: a hash of its size and a sample of its content.
    found:   its images.
    """

    path: Path
    state: tuple[int, int]
    content: str
    found: Labelled


def look_through(path: Path, folder: Path, *, image: str | None, label: str | None) -> Shard:
    """The images of a shard, from its index in a folder if it has one, else from the shard, and then an index is kept.

    An index is keyed by size, time, inode and a sample of the shard, so a changed one is looked through anew.

    Raises:
        InputError, FileError: the shard is refused; see list_members and label_members.
    """
    try:
        stat = path.stat()
        content = sample(path, stat.st_size)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error}; make it readable or move it away") from error
    state = (stat.st_size, stat.st_mtime_ns)
    key = hashlib.sha256(
        json.dumps([FORMAT, image, label, state, stat.st_ino, content, sorted(readable_suffixes())]).encode()
    ).hexdigest()
    index = folder / f"{path.stem}-{key[:16]}.json"
    found = _read(index, key)
    if found is None:
        read = partial(read_member, str(path), state)
        found = label_members(list_members(path), read, shard=str(path), image=image, label=label)
        _write(index, key, found)
    return Shard(path, state, content, found)


def sample(path: Path, size: int) -> str:
    """A hash of the size of a file and of blocks all over it."""
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for i in range(SAMPLES):
            file.seek(i * max(0, size - SAMPLE) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def _read(index: Path, key: str) -> Labelled | None:
    try:
        content = json.loads(index.read_text(encoding="ascii"))
        if content["key"] != key:
            return None
        images = [(Member(*member), str(label)) for *member, label in content["images"]]
        return Labelled(images, content["source"], content["left_out"])
    except (OSError, ValueError, LookupError, TypeError):  # not there or damaged: the shard says it all again
        return None


def _write(index: Path, key: str, found: Labelled) -> None:
    rows = [(*member, label) for member, label in found.images]
    content = {"key": key, "source": found.source, "left_out": found.left_out, "images": rows}
    partial_file = index.with_suffix(f".{os.getpid()}.partial")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        partial_file.write_text(json.dumps(content), encoding="ascii")
        partial_file.replace(index)
    except OSError as error:
        log.warning(
            "the index %s cannot be kept, so the shard is looked through at each start: %s", index, error
        )
