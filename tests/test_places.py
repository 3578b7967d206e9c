"""How many places a new part touches, as docs/architecture.md states: of one's own, and in this repository."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

OF_ONES_OWN = {
    "mine/pooling.py": '''
        from torch import Tensor, nn

        from dml.types import Pooled

        class MiddlePooling(nn.Module):
            """The vector of the location in the middle."""

            has_attributes = False
            pools_embedded = False

            def __init__(self, in_channels: int) -> None:
                super().__init__()
                self.out_channels = in_channels

            def forward(self, features: Tensor) -> Pooled:
                locations = features.flatten(2)
                return Pooled(locations[:, :, locations.shape[2] // 2])
    ''',
    "configs/pooling/mine.yaml": """
        # @package _global_
        pooling:
          _target_: mine.pooling.MiddlePooling
        zero_shot:
          weight: 0.0
    """,
    "mine/loss.py": """
        import torch
        from torch import Tensor, nn

        class Alignment(nn.Module):
            def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
                same = labels[:, None] == labels
                return (vectors @ vectors.T)[~same].mean() - (vectors @ vectors.T)[same].mean()
    """,
    "configs/loss/mine.yaml": """
        _target_: mine.loss.Alignment
    """,
    "mine/data.py": """
        from dml.data import TrainTest, emoji_dataset

        def half(root: str) -> TrainTest:
            data = emoji_dataset(root)
            return data._replace(test=data.test.select_classes(data.test.class_names[::2]))
    """,
    "configs/dataset/mine.yaml": """
        _target_: mine.data.half
        root: ${paths.data}/emoji
    """,
}


def written(files: Mapping[str, str], folder: Path) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        path.write_text("\n".join(line[margin:] for line in lines) + "\n")
    (folder / "mine" / "__init__.py").touch()
    return folder


def test_a_pooling_a_loss_and_a_data_set_of_ones_own_are_two_files_each(tmp_path: Path) -> None:
    folder = written(OF_ONES_OWN, tmp_path / "elsewhere")
    words = ["pooling=mine", "loss=mine", "dataset=mine", "debug=smoke", "trainer.max_steps=1"]
    words.append(f"hydra.run.dir={tmp_path / 'run'}")
    result = subprocess.run(
        [sys.executable, "train.py", "--config-dir", str(folder / "configs"), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert 0 < json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["recall@1"] < 1


STATED = {
    "a pooling": (
        "GeneralizedMaxPooling",
        {
            "dml/pooling/generalized_max.py",
            "dml/pooling/__init__.py",
            "configs/pooling/generalized_max.yaml",
        },
    ),
    "a loss": (
        "SmoothAPLoss",
        {"dml/losses/smooth_ap.py", "dml/losses/__init__.pyi", "configs/loss/smooth_ap.yaml"},
    ),
    "a data set": (
        "emoji_dataset",
        {"dml/data/emoji.py", "dml/data/__init__.py", "configs/dataset/emoji.yaml"},
    ),
    "a metric": ('"r_precision"', {"dml/retrieval/metric_table.py"}),
    "an option": ("log_every", {"dml/config/options.py", "configs/train.yaml", "dml/training/trainer.py"}),
    "a logger": (
        "WandbLogger",
        {"dml/loggers/wandb.py", "dml/loggers/__init__.pyi", "configs/logger/wandb.yaml"},
    ),
}
"""One that is there stands for those to come: the word it goes by, and every file of the program that holds it."""


@pytest.mark.parametrize("part", STATED)
def test_a_part_of_this_repository_is_named_where_the_docs_say_and_nowhere_else(part: str) -> None:
    word, places = STATED[part]
    of_the_program = [
        *(ROOT / "dml").rglob("*.py"),
        *(ROOT / "dml").rglob("*.pyi"),
        *(ROOT / "configs").rglob("*.yaml"),
    ]
    chosen = "configs/debug/", "configs/published/", "configs/study/"  # give an option that is there a value
    found = {
        path.relative_to(ROOT).as_posix()
        for path in of_the_program
        if re.search(rf"(?<!\w){word}(?!\w)", path.read_text(encoding="utf-8"))
    }
    assert {name for name in found if not name.startswith(chosen)} == places
    row = re.search(rf"^\| {part} \|.*\| (\d) \|$", PAGE, re.MULTILINE)
    assert row is not None and int(row[1]) == len(places)


def test_the_layers_of_the_docs_are_those_that_imports_are_held_to() -> None:
    block = PAGE.split("## Layers")[1].split("\n\n")[2]
    shown = [sorted(re.split(", ", line.strip())) for line in block.splitlines()]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1].split("]")[0]
    held = [sorted(re.split(r" \| ", line)) for line in re.findall(r'"(.*)"', text)]
    assert shown[1:] == held
