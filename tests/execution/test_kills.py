"""A run that is killed at any moment and resumed ends with the very bits of one that went through."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.children import start_child
from tests.execution import kills

EVERYTHING = [
    "debug=smoke",
    "dataset=folder",
    "dataset.cache=true",
    "transform.short_side=32",
    "transform.evaluation.resize=32",
    "trainer.max_steps=14",
    "trainer.eval_every=2",
    "trainer.patience=4",
    "trainer.ema=0.8",
    "memory.batches=2",
    "memory.start_step=3",
    "scheduler=plateau",
    "scheduler.patience=1",
    "logger.tensorboard=false",
]
FILES = ("metrics.json", "history.csv", "steps.csv")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes, four noisy pictures each."""
    root, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in range(60):
        (root / str(name)).mkdir()
        for picture in range(4):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / str(name) / f"{picture}.png")
    return root


def start(folder: Path, pictures: Path, *others: str, kill_at: tuple[int, str] | None = None) -> BaseProcess:
    """A child that trains in the folder; its cache of pictures lies beside."""
    return start_run(kills.run, folder, pictures, others, kill_at)


def start_run(
    target: Callable[..., None], folder: Path, pictures: Path, others: Sequence[str], *arguments: Any
) -> BaseProcess:
    places = [f"dataset.root={pictures}", f"dataset.cache_folder={folder.parent / 'cache'}"]
    return start_child(target, str(folder), [*EVERYTHING, *places, *others], *arguments)


@pytest.fixture(scope="module")
def uninterrupted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = start(folder, pictures)
    process.join(120)
    assert process.exitcode == 0
    return folder


@pytest.mark.parametrize("kills_in_all", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_any_moment_leave_no_trace(
    kills_in_all: int, uninterrupted: Path, pictures: Path, tmp_path: Path
) -> None:
    """Every other one inside a save, in each of its phases."""
    moments, killed, inside_saves, runs = random.Random(0), 0, 0, 0
    while killed < kills_in_all:
        folder, runs = tmp_path / str(runs), runs + 1
        while not (folder / "metrics.json").exists():
            saving = killed % 2 == 0 and killed < kills_in_all
            at = (moments.randint(1, 6), kills.PHASES[killed // 2 % 3]) if saving else None
            process = start(folder, pictures, f"num_workers={moments.choice([0, 2])}", kill_at=at)
            if not saving and killed < kills_in_all:
                time.sleep(moments.uniform(0.0, 1.5))
                process.kill()
            process.join(120)
            assert process.exitcode in (0, -9)
            killed += process.exitcode == -9
            inside_saves += saving and process.exitcode == -9
        same_bits(folder, uninterrupted)
    assert 0 < inside_saves < killed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_of_a_run_saves_the_step_under_way(
    number: signal.Signals, uninterrupted: Path, pictures: Path, tmp_path: Path
) -> None:
    folder, workers = tmp_path / "run", ["num_workers=2"]
    process = start_run(kills.run_as_job, folder, pictures, workers, number.value, 4)
    process.join(120)
    assert process.exitcode == 128 + number
    assert torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["step"] == 5
    process = start(folder, pictures, *workers)
    process.join(120)
    assert process.exitcode == 0
    same_bits(folder, uninterrupted)


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
