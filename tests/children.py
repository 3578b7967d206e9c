"""Child processes that start in milliseconds: forks of a server that has imported what a run imports."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from multiprocessing import get_context, set_start_method
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from dml.commands import main
from dml.distributed import process_group
from dml.train import train
from tests.composed import compose_config

__all__ = [
    "Command",
    "compose_config",
    "free_port",
    "run_dml",
    "start_child",
    "start_dml",
    "together",
    "train_together",
]

ROOT = Path(__file__).parents[1]
PATIENCE = 300  # seconds


def start_child(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


class Ended(NamedTuple):
    """What became of a command."""

    returncode: int | None
    stdout: str
    stderr: str


class Command(NamedTuple):
    """A command that runs, in a group of processes of its own."""

    process: BaseProcess
    printed: Path

    def end(self) -> Ended:
        """Wait for it."""
        self.process.join(PATIENCE)
        out, err = ((self.printed / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return Ended(self.process.exitcode, out, err)


def start_dml(*words: object, cwd: Path = ROOT) -> Command:
    """``dml WORDS``, without the three seconds that Python takes to import what it runs."""
    printed = Path(tempfile.mkdtemp())
    return Command(start_child(_dml, printed, cwd, list(map(str, words))), printed)


def run_dml(*words: object, cwd: Path = ROOT) -> Ended:
    return start_dml(*words, cwd=cwd).end()


def _dml(printed: Path, cwd: Path, words: list[str]) -> None:
    os.setsid()
    set_start_method("fork", force=True)  # of data workers: else they would be children of the server
    _print_to(printed / "out", 1)
    _print_to(printed / "err", 2)
    os.chdir(cwd)
    main(words)


def _print_to(path: Path, *streams: int) -> None:
    with path.open("w") as file:
        for stream in streams:
            os.dup2(file.fileno(), stream)


def together(processes: int, target: Callable[..., None], folder: Path, *arguments: Any) -> list[str]:
    """Call ``target(folder, *arguments)`` in processes that find each other as those of torchrun do.

    Returns:
        What each printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    children = [
        start_child(_one_of, rank, processes, port, target, folder, *arguments) for rank in range(processes)
    ]
    for child in children:
        child.join(PATIENCE)
    printed = [(folder / f"printed{rank}.txt").read_text() for rank in range(processes)]
    assert [child.exitcode for child in children] == [0] * processes, "\n".join(printed)
    return printed


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _one_of(
    rank: int, processes: int, port: int, target: Callable[..., None], folder: Path, *arguments: Any
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "children",
    }
    _print_to(folder / f"printed{rank}.txt", 1, 2)
    with process_group():
        target(folder, *arguments)


def train_together(folder: Path, *overrides: str) -> None:
    """A run in the folder ``run`` of the folder."""
    train(compose_config(*overrides), folder / "run")
