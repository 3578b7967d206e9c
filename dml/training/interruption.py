"""Ctrl-C as a request: the step under way is finished, the run saved, then it stops."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType

__all__ = ["Interrupted", "StopRequest"]


class Interrupted(Exception):
    """The run was asked to stop and has been saved."""


class StopRequest:
    """Within the block, the first SIGINT or SIGTERM sets ``requested``; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopRequest:
        self._previous = {
            number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        sys.stderr.write("stopping after this step; again stops at once, without saving\n")
