"""The test embeddings that a run stored, read back; the file may come from a stranger."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dml.errors import InputError

__all__ = ["read_embeddings"]

ARRAYS = ("vectors", "labels", "class_names", "files", "is_query", "is_gallery")


def read_embeddings(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a ``test_embeddings.npz`` by name; nothing in it is unpickled.

    Raises:
        InputError: it is damaged, holds something other than plain arrays, or was compressed, as no run does: a few
            kilobytes could fill the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [member.filename for member in archive.infolist() if member.compress_type]
        if packed:
            raise InputError(f"{packed[0]} is compressed")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ARRAYS if name in stored.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not as a run writes it ({error}): take checkpoint=last, which embeds the images now, or fetch "
            "the run again"
        ) from error
