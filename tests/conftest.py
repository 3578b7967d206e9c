"""Composed configurations and small runs that several tests share."""

from __future__ import annotations

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: tests run two at a time, each on a core of its own

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from dml.config import TrainConfig, register_schema
from dml.train import train
from dml.training import Trainer
from tests.composed import compose_config
from tests.emoji_once import decode_emoji_once
from tests.noise import assemble
from tests.pretend_device import pretend_gpus

register_schema()
decode_emoji_once()


@pytest.fixture(name="compose_config", scope="session")
def compose_config_fixture() -> Callable[..., TrainConfig]:
    return compose_config


@pytest.fixture(scope="session")
def compose_smoke() -> Callable[..., TrainConfig]:
    return partial(compose_config, "debug=smoke")


@pytest.fixture(scope="session")
def smoke_run(compose_smoke: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``debug=smoke``."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    train(compose_smoke(), folder)
    return folder


@pytest.fixture(name="assemble", scope="session")
def assemble_fixture() -> Callable[[TrainConfig, Path], Trainer]:
    """A trainer on a few images of noise, for what needs no real data."""
    return assemble


@pytest.fixture
def pretend_gpu() -> Iterator[dict[str, int]]:
    """One GPU, as far as Python can tell; see tests/pretend_device.py."""
    with pretend_gpus() as state:
        yield state
