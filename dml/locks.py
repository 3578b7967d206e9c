"""One process at a time writes to a run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["lock_folder", "unlock_folder"]

FILE = ".lock"
_held: dict[Path, int] = {}  # file descriptors; a process that ends, in whatever way, gives its locks back


def lock_folder(folder: Path) -> bool:
    """Keep other processes out until this one unlocks the folder or ends; False if another one is in."""
    if folder.resolve() in _held:
        return True
    descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _held[folder.resolve()] = descriptor
    return True


def unlock_folder(folder: Path) -> None:
    """Let others in again; without effect on a folder that this process has not locked."""
    if (descriptor := _held.pop(folder.resolve(), None)) is not None:
        (folder / FILE).unlink(missing_ok=True)
        os.close(descriptor)
