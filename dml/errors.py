"""Errors that the user can mend. Everything else that is raised is a defect, and keeps its traceback.

Each class is also the built-in one that Python code would expect, so ``except ValueError`` and
``except FileNotFoundError`` keep working.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "CheckpointError",
    "ConfigError",
    "FileError",
    "InputError",
    "MissingFileError",
    "OccupiedError",
    "UnavailableError",
    "UserError",
    "WrongTypeError",
    "raised_in_dml",
    "user_files",
]


class UserError(Exception):
    """What the user can mend: the message says what is wrong, the value, what is accepted and what to do."""


class ConfigError(UserError, ValueError):
    """A configuration that cannot be run; the message says which key, which value and what is accepted."""


class InputError(UserError, ValueError):
    """A value, a data set or a file that does not fit."""


class CheckpointError(InputError):
    """A checkpoint that is damaged, foreign or newer, or that does not fit what it is loaded into."""


class WrongTypeError(UserError, TypeError):
    """A value of a type that is not accepted."""


class FileError(UserError, OSError):
    """A file or folder that the system does not let us read or write."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that is not where the user says."""


class OccupiedError(UserError, FileExistsError):
    """A place that holds something which must not be overwritten, or that another process works in."""


class UnavailableError(UserError, RuntimeError):
    """Something that would have to be fetched and cannot be."""


@contextmanager
def user_files(purpose: str) -> Iterator[None]:
    """Turn what the system says of files that the user named into a user's error.

    Args:
        purpose: what is being done, as in "reading config.yaml"; it begins the sentence.

    Raises:
        MissingFileError: a file or folder is not there.
        FileError: whatever else the system refuses: no permission, a full disk, a read-only file system, ...
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise MissingFileError(f"{purpose}: {_reason(error)}; check the path") from error
    except OSError as error:
        raise FileError(f"{purpose}: {_reason(error)}; mend that and start again") from error


def _reason(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"


def raised_in_dml(error: BaseException) -> bool:
    """Whether code of dml itself, not of a library under it, raised the error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == "dml"
