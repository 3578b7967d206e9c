"""Ctrl-C as a request: the step under way is finished, the run saved, then it stops."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

from dml.distributed import is_main, world_size
from dml.signals import STOP_SIGNALS, Interrupted

__all__ = ["StopRequest"]

ONE_REQUEST = 2.0  # seconds in which a Ctrl-C may come from the terminal, and once more from torchrun


class StopRequest:
    """Within the block a signal of STOP_SIGNALS is a request: ``number`` names it, and is 0 before.

    One request may arrive several times, from the terminal or the job queue and from torchrun. Only a second Ctrl-C, 2
    seconds or more after the first, stops at once. What was ignored stays so, as SIGHUP under nohup; not Ctrl-C.

    At the end of the block a signal that nobody obeyed goes to whoever listened before. So does one that others wait
    for, such as submitit, which then puts the job back into the queue.

    In a thread other than the main one Python can listen to no signal, and the block does nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at_once, self._first_interrupt = False, -1.0

    def __enter__(self) -> StopRequest:
        in_main_thread = threading.current_thread() is threading.main_thread()
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS if in_main_thread}
        self._before = {n: h for n, h in before.items() if h != signal.SIG_IGN or n == signal.SIGINT}
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if not self.number:
            return
        listener = self._before[signal.Signals(self.number)]
        if kind is None or (callable(listener) and listener is not signal.default_int_handler):
            signal.raise_signal(self.number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block a request raises `Interrupted` where the code stands: for work that can be done again.

        With several processes it is a request as elsewhere: none may leave the others waiting for it.
        """
        self._at_once = world_size() == 1
        try:
            if self.number and self._at_once:
                raise Interrupted(number=self.number)
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._first_interrupt < 0:
                self._first_interrupt = now
            if now - self._first_interrupt >= ONE_REQUEST:
                raise KeyboardInterrupt
        if self.number:
            return
        self.number = number
        if is_main():
            _say(
                "saving and stopping; Ctrl-C once more, in 2 seconds or later, stops at once, without saving\n"
            )
        if self._at_once:
            raise Interrupted(number=number)


def _say(sentence: str) -> None:
    """Past sys.stderr: it may be in the middle of a write, and takes none from a handler then."""
    with suppress(OSError):
        os.write(2, sentence.encode())
