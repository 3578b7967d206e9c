"""A run that is killed at any moment and resumed ends with the very bits of one that went through."""

from __future__ import annotations

import random
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from tests.execution import kills

KILLS = 20
EVERYTHING = [
    "debug=smoke",
    "trainer.max_steps=14",
    "trainer.eval_every=2",
    "trainer.patience=20",
    "trainer.ema=0.8",
    "memory.batches=2",
    "memory.start_step=3",
    "scheduler=plateau",
    "scheduler.patience=1",
    "logger.tensorboard=false",
]
FILES = ("metrics.json", "history.csv", "steps.csv")


def start(folder: Path, *overrides: str, kill_at: tuple[int, str] | None = None) -> BaseProcess:
    context = get_context("forkserver")  # imports once; a child starts in milliseconds
    context.set_forkserver_preload([kills.__name__])
    process = context.Process(target=kills.run, args=(str(folder), [*EVERYTHING, *overrides], kill_at))
    process.start()
    return process


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = start(folder)
    process.join(120)
    assert process.exitcode == 0
    return folder


def test_twenty_kills_leave_no_trace(uninterrupted: Path, tmp_path: Path) -> None:
    moments, killed, inside_saves, runs = random.Random(0), 0, 0, 0
    while killed < KILLS:
        folder, runs = tmp_path / str(runs), runs + 1
        while not (folder / "metrics.json").exists():
            saving = moments.random() < 0.5 and killed < KILLS
            at = (moments.randint(1, 6), moments.choice(kills.PHASES)) if saving else None
            process = start(folder, f"num_workers={moments.choice([0, 2])}", kill_at=at)
            if not saving and killed < KILLS:
                time.sleep(moments.uniform(0.0, 1.5))
                process.kill()
            process.join(120)
            assert process.exitcode in (0, -9)
            killed += process.exitcode == -9
            inside_saves += saving and process.exitcode == -9
        same_bits(folder, uninterrupted)
    assert 0 < inside_saves < killed


def same_bits(folder: Path, expected: Path) -> None:
    for name in FILES:
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    for name in ("last.pt", "best.pt"):
        ours, theirs = (torch.load(f / "checkpoints" / name, weights_only=True) for f in (folder, expected))
        for state in (ours, theirs):
            state.pop("record", None)  # the command and the number of workers may differ
        assert_equal(ours, theirs, name)


def assert_equal(ours: object, theirs: object, where: str) -> None:
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, torch.Tensor) and ours.equal(theirs), where
    elif isinstance(theirs, dict):
        assert isinstance(ours, dict) and list(ours) == list(theirs), where
        for key in theirs:
            assert_equal(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, (list, tuple)):
        assert isinstance(ours, (list, tuple)) and len(ours) == len(theirs), where
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(one, other, f"{where}.{index}")
    else:
        assert ours == theirs, where
