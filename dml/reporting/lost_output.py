"""Standard streams whose loss ends nothing: a full disk under a log, a reader that has left a pipe, a closed stream."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO, cast

__all__ = ["is_output_lost", "outlast_lost_output"]


class _Outlasting:
    """A stream whose text may be lost; it is tried again at every write, since a disk may have room again.

    told: the stream that says so, once; None to say nothing.
    """

    def __init__(self, stream: TextIO, told: TextIO | None) -> None:
        self._stream, self._told = stream, told
        self.is_lost = False

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        if self._told is not None and not self.is_lost:
            self._told.write(
                f"warning: what is printed here cannot be written and is lost ({error}); the work goes on\n"
            )
        self.is_lost = True


def outlast_lost_output() -> None:
    """Let no write to standard output or standard error raise an OSError, here and when the process ends."""
    if not isinstance(sys.stderr, _Outlasting):
        sys.stderr = cast(TextIO, _Outlasting(sys.stderr or _nowhere(), None))
    if not isinstance(sys.stdout, _Outlasting):
        sys.stdout = cast(TextIO, _Outlasting(sys.stdout or _nowhere(), cast(TextIO, sys.stderr)))


def is_output_lost() -> bool:
    """Whether standard output could not be written at some time."""
    sys.stdout.flush()
    return isinstance(sys.stdout, _Outlasting) and sys.stdout.is_lost


def _nowhere() -> TextIO:
    """For a stream that was closed before the process began."""
    return open(os.devnull, "w", encoding="utf-8")
