"""One process at a time writes to a run folder, searches in a folder or builds a cache.

A lock belongs to its process and goes with it, however it ends; a file that is left behind locks nothing. Where the
file system has no locks, that is said once and the work goes on without one.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import filelock

__all__ = ["lock_folder", "locked", "unlock_folder"]

log = logging.getLogger(__name__)

FILE = ".lock"
TAKEN = (
    errno.EACCES,
    errno.EAGAIN,
)  # another process has it; any other error means that there are no locks here
PAUSE = 0.1  # seconds between two looks at a lock of another process
Release = Callable[[], None]
_held: dict[Path, Release] = {}
_waiting = Lock()  # a lock of the system is one of the process: its threads wait here


def lock_folder(folder: Path) -> bool:
    """Keep other processes out until this one unlocks the folder or ends; False if another one is in.

    Raises:
        OSError: the folder is not there or cannot be written to.
    """
    if folder.resolve() in _held:
        return True
    release = _lock(folder / FILE)
    if release is None:
        return False
    _held[folder.resolve()] = release
    return True


def unlock_folder(folder: Path) -> None:
    """Let others in again; without effect on a folder that this process has not locked."""
    if (release := _held.pop(folder.resolve(), None)) is not None:
        release()


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Wait until no other process is in a block of the same path, and keep them out of this one.

    Gives False where the file system has no locks, and others may be in it too.
    """
    with _waiting:
        while (release := _lock(path)) is None:
            time.sleep(PAUSE)
        try:
            yield release is not _nothing
        finally:
            release()


def _posix() -> Any:
    """The module for locks of POSIX, which Windows does not have."""
    try:
        return import_module("fcntl")
    except ModuleNotFoundError:
        return None


def _lock(path: Path) -> Release | None:
    """Lock a file, which is made if need be, and say how to let it go; None if another process has it."""
    if (fcntl := _posix()) is None:
        return _lock_by_library(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        # not flock: a data worker inherits the lock of that kind and keeps it when its parent was killed
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in TAKEN:
            return None
        return _go_on_without(path, error)
    if os.fstat(descriptor).st_nlink == 0:  # its last owner removed it in between, and others make a new one
        os.close(descriptor)
        return _lock(path)

    def release() -> None:
        path.unlink(missing_ok=True)
        os.close(descriptor)

    return release


def _lock_by_library(path: Path) -> Release | None:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        return _go_on_without(path, error)
    return lambda: lock.release()


def _go_on_without(path: Path, error: Exception) -> Release:
    log.warning(
        "%s cannot be locked (%s): nothing keeps a second process out of %s, so start none there",
        path,
        error,
        path.parent,
    )
    return _nothing


def _nothing() -> None:
    pass
