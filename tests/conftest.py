"""Composed configurations and small runs that several tests share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from dml.config import TrainConfig, register_schema

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
