"""How many places a new part touches, as docs/architecture.md states: of one's own, and in this repository."""

import re
from pathlib import Path

import pytest

from tests.parts_of_ones_own import FILE, GROUPS
from tests.parts_of_ones_own import PAGE as EXTENDING

ROOT = Path(__file__).parents[1]
MODULES = {"dataset": "data"}
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_each_part_of_ones_own_is_two_files() -> None:
    """tests/test_extending.py trains with all of them."""
    files = sorted(name for name, _ in FILE.findall(EXTENDING))
    assert files == sorted(
        name
        for group in GROUPS
        for name in (f"mine/{MODULES.get(group, group)}.py", f"my_configs/{group}/mine.yaml")
    )


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
