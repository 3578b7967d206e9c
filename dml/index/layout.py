"""What an index is on the disk.

index.json     which model made the vectors, how many items there are, how exact an answer is; for people and programs
items.sqlite   a row for each item: where it stands in vectors.npy, path, size, time, SHA-256, width, height, label
vectors.npy    (n, D) float32 or float16, opened by numpy.load too
golden/        images and their vectors, by which another model is told
approximate.faiss   the vectors in lists, if an approximate search was asked for
uploads/       image files that a service was given, if there were any
next/          an index that is to take the place of this one, see `settle`

The database says what is there: vectors are written first, and count once their rows are committed. So a process that
is killed at any time leaves an index of all that was committed.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from dml.errors import InputError, MissingFileError, user_files
from dml.locks import locked

__all__ = ["FORMAT", "IndexFolder", "IndexInfo", "read_info", "settle", "swap", "write_info", "write_whole"]

FORMAT = 1
DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class IndexFolder:
    """The folder of an index, with a name for each path in it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def info(self) -> Path:
        return self.path / "index.json"

    @property
    def items(self) -> Path:
        return self.path / "items.sqlite"

    @property
    def vectors(self) -> Path:
        return self.path / "vectors.npy"

    @property
    def golden(self) -> Path:
        return self.path / "golden"

    @property
    def approximate(self) -> Path:
        return self.path / "approximate.faiss"

    @property
    def uploads(self) -> Path:
        return self.path / "uploads"

    @property
    def next(self) -> IndexFolder:
        return IndexFolder(self.path / "next")

    @property
    def complete(self) -> Path:
        """Says that `next` is whole and takes this one's place."""
        return self.next.path / "complete"


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """The content of index.json.

    fingerprint: of the model; see `fingerprint_of`.
    run:         the run folder of the model, absolute.
    checkpoint:  ``best`` or ``last``.
    dimension:   D.
    dtype:       float32 or float16, of the vectors on the disk.
    generation:  another one after each upgrade.
    items:       how many there are, as of the last change.
    removed:     how many rows of vectors.npy no longer count.
    calibration: what `dml calibrate` found for this model, if it was there when the index was last changed.
    approximate: how much an approximate search finds, see `Recall`; None if there is none, and answers are exact.
    """

    fingerprint: str
    run: str
    checkpoint: str
    dimension: int
    dtype: str = "float32"
    generation: str = ""
    items: int = 0
    removed: int = 0
    calibration: dict[str, Any] | None = None
    approximate: dict[str, Any] | None = None
    format: int = field(default=FORMAT)

    @property
    def model(self) -> str:
        """The model in a few words: its run and the first digits of the fingerprint."""
        return f"{Path(self.run).name}/{self.checkpoint} {self.fingerprint[:12]}"

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype("<f4" if self.dtype == "float32" else "<f2")


def read_info(folder: IndexFolder) -> IndexInfo:
    """What index.json says.

    Raises:
        MissingFileError: the folder is no index.
        InputError: it is damaged, or a newer version wrote it.
    """
    if not folder.info.is_file():
        state = "half-made" if folder.items.exists() else "no index"
        raise MissingFileError(
            f"{folder} is {state}, it has no index.json: make one by `dml index build RUN FOLDER --to {folder}`, or "
            "give the folder of an index"
        )
    try:
        with user_files(f"reading {folder.info}"):
            content = json.loads(folder.info.read_text(encoding="utf-8"))
        if content.get("format", 0) > FORMAT:
            raise InputError(
                f"{folder} was written by a newer dml, in format {content['format']}; this one reads up to {FORMAT}: "
                "update dml"
            )
        info = IndexInfo(
            **{key: content[key] for key in (f.name for f in fields(IndexInfo)) if key in content}
        )
        if info.dtype not in DTYPES or not isinstance(info.dimension, int) or info.dimension < 1:
            raise _damaged(folder, f"dtype {info.dtype}, dimension {info.dimension}")
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from error
    return info


def _damaged(folder: IndexFolder, reason: object) -> InputError:
    return InputError(
        f"{folder.info} is damaged ({reason}): restore it from a backup, or build the index anew in another folder"
    )


def write_info(folder: IndexFolder, info: IndexInfo) -> None:
    """Write index.json, whole or not at all."""
    write_whole(folder.info, (json.dumps(asdict(info), indent=2) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there with all of its content, on the disk, or as it was."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def settle(folder: IndexFolder) -> None:
    """Finish what a killed process has begun: an upgraded index that is whole takes the place of the old one.

    Whoever opens an index asks for it first, so that nobody sees a part of one and a part of the other.
    """
    if folder.complete.exists():
        with user_files(f"putting the upgraded {folder} in place"), locked(folder.path / ".swap"):
            _replace_by_next(folder)


def swap(folder: IndexFolder) -> None:
    """Let `next`, which is whole, take the place of the index."""
    with locked(folder.path / ".swap"):
        write_whole(folder.complete, b"")
        _replace_by_next(folder)


def _replace_by_next(folder: IndexFolder) -> None:
    """Move the files of `next` to their places; done again after a kill, it goes on where it was."""
    if not folder.complete.exists():
        return
    new = folder.next
    for name in ("golden", "vectors", "approximate", "items", "info"):
        source, target = getattr(new, name), getattr(folder, name)
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        if source.exists():
            source.replace(target)
    folder.complete.unlink()
    shutil.rmtree(new.path, ignore_errors=True)
