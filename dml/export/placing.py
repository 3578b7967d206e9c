"""A folder that takes its place when it is whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dml.errors import InputError, OccupiedError, user_files
from dml.locks import locked

__all__ = ["placed"]

FILES = (".onnx", ".pt2", ".pt", ".pth", ".safetensors", ".json", ".zip", ".tar", ".gz", ".tgz")


@contextmanager
def placed(to: str | os.PathLike[str], mark: str) -> Iterator[Path]:
    """An empty folder for the block to write into; after it, it takes the place of ``to``, and of what was there.

    When the block raises, or the process is killed, ``to`` is as it was; what a killed one has left goes with the next.

    mark: the file by which a folder of this kind is known; one that lacks it is not overwritten.

    Raises:
        InputError: ``to`` ends like a file.
        OccupiedError: ``to`` is a file, or holds something else.
        FileError: the system refuses to write there.
    """
    folder = Path(to)
    if folder.suffix in FILES:
        raise InputError(
            f"--to {to}: {folder.suffix} is the ending of a file, and a folder is made; accepted: any name "
            f"without such an ending, as in --to {folder.with_suffix('')}"
        )
    partial, old = (folder.parent / f".{folder.name}.{state}" for state in ("partial", "old"))
    with user_files(f"making the folder {folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock"):
            if old.exists() and not folder.exists():
                old.replace(folder)  # a process was killed between the two steps below
            _refuse_others(folder, mark)
            for left in (partial, old):
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir()
            try:
                yield partial
                if folder.exists():
                    folder.replace(old)
                partial.replace(folder)
            finally:
                for left in (partial, old):
                    shutil.rmtree(left, ignore_errors=True)


def _refuse_others(folder: Path, mark: str) -> None:
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / mark).is_file()):
        return
    if folder.exists():
        raise OccupiedError(
            f"{folder} holds something else (it has no {mark}), and is left as it is: give a folder that is new or "
            "empty, or one that this command has made, which is replaced"
        )
