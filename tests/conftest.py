"""Composed configurations and small runs that several tests share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from dml.assembly import build_evaluator, build_model, build_objective, build_trainer
from dml.config import TrainConfig, register_schema
from dml.data import Records, Splits
from dml.training import Trainer
from train import train

ROOT = Path(__file__).parent.parent

register_schema()


def compose_config(*overrides: str) -> TrainConfig:
    """The configuration that ``python train.py OVERRIDES`` would run."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"paths.data={ROOT / 'data'}", *overrides])


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


@pytest.fixture(scope="session")
def assemble() -> Callable[[TrainConfig, Path], Trainer]:
    """A trainer on a few images of noise, for what needs no real data."""
    data = Splits(noise(12, 5), noise(6, 4), noise(7, 4))

    def assembled(cfg: TrainConfig, folder: Path) -> Trainer:
        objective = build_objective(cfg, data.train.num_classes)
        return build_trainer(cfg, build_model(cfg), objective, data, build_evaluator(cfg, data), folder)

    return assembled


def noise(classes: int, images: int) -> Records:
    count = classes * images
    pixels = np.random.default_rng(classes).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(classes), images)
    names = tuple(f"{classes}-{i}" for i in range(classes))
    return Records(pixels, np.arange(count), labels, names, tuple(f"{i}.png" for i in range(count)))
