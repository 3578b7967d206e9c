"""The signals that ask a run to stop, what they raise, and which processes hear them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["STOP_SIGNALS", "Interrupted", "obey_main_process_alone", "signals_held_back"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # Windows has the first two
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, by the signal ``number``, and has been saved."""

    def __init__(self, message: str = "", *, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_status(self) -> int:
        """As a shell has it: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.number


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Deliver the signals of STOP_SIGNALS after the block; a process that is started in it begins without them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_main_process_alone(worker: int) -> None:
    """Let a data worker, started by `signals_held_back`, end when its main process asks and never otherwise.

    A terminal, torchrun and a job queue signal all processes of a run. A worker that died of it, or that ran a handler
    which it has from the main process, would end the run unsaved. SIGTERM cannot just be ignored: the main process
    ends a worker that hangs by it. Only Linux tells who sent it; elsewhere it ends the worker, as torch has it.
    """
    del worker
    for number in STOP_SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM})
        threading.Thread(target=_end_when_asked, daemon=True).start()


def _end_when_asked() -> None:
    main = multiprocessing.parent_process()
    assert main is not None, "a worker has a main process"
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main.pid:
        pass
    os.kill(os.getpid(), signal.SIGKILL)
