"""What docs/your_images.md tells people to type works as written."""

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.config import TrainConfig
from dml.runs import load_metrics
from dml.train import train
from tests.children import run_dml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your_images.md").read_text(encoding="utf-8")
FOLDER, TABLE = re.findall(r"^ {4}(dml train .*hydra\.run\.dir=.*)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds photos/, a class a colour, and the same as a table with roles."""
    place = tmp_path_factory.mktemp("your images")
    rng = np.random.default_rng(0)
    rows = []
    for c in range(40):
        colour = rng.integers(60, 196, 3)
        for i in range(4):
            path = place / "photos" / f"red chair {c}" / f"{i}.{'JPG' if i % 2 else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = colour + rng.integers(-60, 60, (30, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            half = "test" if c % 2 else "train"
            role = ("query" if i == 0 else "gallery") if c % 2 else ""
            rows.append([path.relative_to(place / "photos").as_posix(), f"chair {c}", half, role])
    with (place / "photos" / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "split", "role"], *rows])
    (place / "mug.jpg").write_bytes((place / "photos" / "red chair 3" / "1.JPG").read_bytes())
    return place


def options(command: str) -> list[str]:
    """What is typed after ``dml train``, cut down to seconds."""
    return [*shlex.split(command)[2:], "debug=smoke"]


def test_a_folder_is_trained_on_and_searched(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_dml("train", *options(FOLDER), cwd=place)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(?:photos|train|val|test): .*$", done.stdout, re.MULTILINE) == [
        "photos: one folder per class; left out: 1 not images ('items.csv')",
        "train: 17 classes, 68 images",
        "val: 4 classes, 16 images",
        "test: 19 classes, 76 images",
    ]
    (place / "photos" / "red chair 3" / "._1.jpg").write_bytes(b"what macOS puts beside it")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(place)
    exec(code, {})
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "1.000  photos/red chair 3/1.JPG" and len(others) == 4


def test_a_table_with_roles_searches_its_gallery_with_the_same_figures_from_the_cache(
    place: Path,
    compose_config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "dml")
    monkeypatch.chdir(place)
    words = [word for word in options(TABLE) if not word.startswith("hydra.")]
    train(compose_config(*words, "paths.data=data"), place / "plain")
    train(compose_config(*words, "paths.data=data", "dataset.cache=true", "num_workers=2"), place / "kept")
    assert "test: 20 classes, 80 images, 20 of them queries" in caplog.messages
    test = load_metrics(place / "plain")["test"]
    assert (test["queries"], test["gallery"]) == (20, 60) and list((place / "data" / "cache").glob("table-*"))
    for name in ("metrics.json", "history.csv"):
        assert (place / "plain" / name).read_bytes() == (place / "kept" / name).read_bytes()
