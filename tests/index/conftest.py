"""Folders of small images, and an index of them by a model of a few numbers that stands for that of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.index import building, index, upgrading
from dml.index.building import build_index
from tests.index.small_model import small_model


def draw(path: Path, seed: int, size: tuple[int, int] = (20, 16)) -> Path:
    """A file of noise in some colour, the same for the same seed."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.integers(0, 256, 3) + rng.integers(-40, 40, (*size[::-1], 3)), 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def nine_images(folder: Path) -> Path:
    """Nine images in folders of three."""
    for number in range(9):
        draw(folder / f"class {number // 3}" / f"{number}.png", number)
    return folder


def pretend_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for a run folder: ``seed-N`` is the model of seed N."""

    def load(folder: object, **_: object) -> object:
        return small_model(int(str(folder).rpartition("-")[2]))

    for module in (building, index, upgrading):
        monkeypatch.setattr(module, "load_model", load)
    folder.mkdir()
    (folder / "config.yaml").touch()
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine images in folders of three."""
    return nine_images(tmp_path / "photos")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return pretend_run(tmp_path / "seed-0", monkeypatch)


@pytest.fixture
def photo_index(run: Path, photos: Path, tmp_path: Path) -> Path:
    """An index of the nine images."""
    build_index(run, [photos], tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture(name="draw")
def draw_fixture() -> Callable[..., Path]:
    return draw
