"""Runs that are killed, or asked to stop, from inside or outside: the child processes of test_kills.py."""

from __future__ import annotations

import os
import signal
import subprocess
from multiprocessing import set_start_method
from pathlib import Path
from typing import Any, NoReturn

import torch

from dml.reporting import readable_errors
from dml.train import train
from dml.training import Trainer, checkpoint, save_checkpoint
from tests.composed import compose_config

PHASES = ("half written", "not yet renamed", "just renamed")


def run(folder: str, overrides: list[str], kill_at: tuple[int, str] | None) -> None:
    """Train in a folder, going on where it stands; with ``kill_at``, die at that checkpoint, in that phase."""
    set_start_method("fork", force=True)  # of data workers: else they would be children of the fork server
    torch.set_num_threads(1)
    with open(os.devnull, "w") as quiet:
        os.dup2(quiet.fileno(), 1)
    if kill_at is not None:
        die_while_saving(*kill_at)
    train(compose_config("resume=auto", *overrides), Path(folder))


def run_as_job(folder: str, overrides: list[str], number: int, at: int) -> None:
    """Train with data workers in a group of processes, all of which get a signal at the start of a step."""
    os.setsid()
    update = Trainer._update

    def asked(self: Trainer, *arguments: Any) -> Any:
        if self.step == at:
            subprocess.run(["kill", f"-{number}", "--", f"-{os.getpid()}"])
        return update(self, *arguments)

    Trainer._update = asked  # type: ignore[method-assign]
    readable_errors(run)(folder, overrides, None)


def die_while_saving(at: int, phase: str) -> None:
    writes = 0

    def dying(path: Path, state: Any) -> None:
        nonlocal writes
        writes += 1
        if writes < at:
            return save_checkpoint(path, state)
        if phase == "just renamed":
            save_checkpoint(path, state)
            die()
        os.fsync = die_of_fsync if phase == "not yet renamed" else os.fsync
        if phase == "half written":
            torch.save = half_of
        save_checkpoint(path, state)

    checkpoint.save_checkpoint = dying


def half_of(state: Any, file: Any) -> NoReturn:
    file.write(b"PK" * 10_000)
    file.flush()
    die()


def die_of_fsync(number: int) -> NoReturn:
    die()


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")
