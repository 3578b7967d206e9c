"""Decoding the emoji takes a second, a third of a run of ``debug=smoke``: once a process is enough."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dml.data import emoji

__all__ = ["decode_emoji_once"]

DECODE = emoji._decode


def decode_emoji_once() -> None:
    """Let every further reading of the same archive, in this process and its forks, take what the first one gave."""
    emoji._decode = lambda path, files: _decoded(path.resolve(), path.stat().st_mtime_ns, tuple(files))


@lru_cache(maxsize=2)
def _decoded(path: Path, changed: int, files: tuple[str, ...]) -> NDArray[np.uint8]:
    return DECODE(path, files)
