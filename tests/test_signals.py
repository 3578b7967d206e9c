"""A data worker hears its main process and nobody else."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from dml.signals import STOP_SIGNALS, obey_main_process_alone, signals_held_back

pytestmark = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs Linux")
FORK = get_context("fork")
ROOT = Path(__file__).parents[1]


def work(begin: Event, ready: Event) -> None:
    begin.wait()
    obey_main_process_alone(0)
    ready.set()
    time.sleep(60)


@pytest.fixture
def worker() -> Iterator[tuple[BaseProcess, Event, Event]]:
    begin, ready = FORK.Event(), FORK.Event()
    with signals_held_back():
        process = FORK.Process(target=work, args=(begin, ready), daemon=True)
        process.start()
    yield process, begin, ready
    process.kill()


def signal_from_elsewhere(process: BaseProcess) -> None:
    for number in STOP_SIGNALS:
        subprocess.run(["kill", f"-{number.value}", str(process.pid)], check=True)


def test_signals_from_elsewhere_pass_a_worker_by_while_it_starts_and_afterwards(
    worker: tuple[BaseProcess, Event, Event],
) -> None:
    process, begin, ready = worker
    signal_from_elsewhere(process)
    begin.set()
    assert ready.wait(10)
    signal_from_elsewhere(process)
    process.join(0.3)
    assert process.is_alive()


def test_the_main_process_ends_a_worker(worker: tuple[BaseProcess, Event, Event]) -> None:
    process, begin, ready = worker
    begin.set()
    assert ready.wait(10)
    process.terminate()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_what_came_in_the_block_is_delivered_after_it() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    with signals_held_back():
        signal.pthread_kill(
            threading.get_ident(), signal.SIGUSR1
        )  # another thread would hear one to the process
        assert not heard
    signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]


LEAN = """
import runpy, signal
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "sigwaitinfo"):
    delattr(signal, name)
module = runpy.run_path("dml/signals.py")
with module["signals_held_back"]():
    module["obey_main_process_alone"](0)
print([number.name for number in module["STOP_SIGNALS"]], signal.getsignal(signal.SIGINT).name)
"""


def test_a_system_with_two_signals_and_no_masks_is_served_too() -> None:
    command = [sys.executable, "-c", LEAN]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "['SIGINT', 'SIGTERM'] SIG_IGN\n"
