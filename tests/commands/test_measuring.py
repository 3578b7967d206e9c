"""The two commands that draw what a run does, from the command line to the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from dml.config import TrainConfig
from tests.photographs import write_finished_run

ROOT = Path(__file__).parents[2]
FIGURES = {"attention": "attention", "grid": "retrieval_grid"}


@pytest.fixture(scope="module")
def run(compose_smoke: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finished_run(tmp_path_factory.mktemp("seeing"), compose_smoke)


def test_attention_draws_the_images_that_are_named(
    run: Path, dml: Callable[..., Result], tmp_path: Path
) -> None:
    oak = run.parent / "photographs" / "test" / "oak"
    done = dml("attention", run, oak / "0.png", oak / "1.png", "--output", tmp_path / "a.png", "--count", 1)
    assert done.stdout == f"1 of 2 images: {tmp_path / 'a.png'}\n"
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height > 100


@pytest.mark.parametrize("name", ["attention", "grid"])
def test_without_an_output_the_figure_lies_in_the_run_folder(
    name: str, run: Path, dml: Callable[..., Result]
) -> None:
    assert dml(name, run, "--count", 1).exit_code == 0
    assert (run / f"{FIGURES[name]}.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["attention", "grid"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "error: no configuration at nowhere/config.yaml"),
        (["nowhere", "--output", "a.bmp"], "error: output=a.bmp: the ending says the format"),
        (["--count", 2], "Missing argument 'RUN'"),
        (["nowhere", "--count", "two"], "Invalid value for '--count'"),
    ],
)
def test_wrong_input_ends_with_a_sentence(
    name: str,
    arguments: list[object],
    message: str,
    dml: Callable[..., Result],
) -> None:
    done = dml(name, *arguments)
    assert done.exit_code == 2 and message in done.stderr


@pytest.mark.parametrize("name", ["attention", "grid"])
def test_the_command_of_the_readme_draws(
    name: str, run: Path, dml: Callable[..., Result], tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"^    dml {name} (.*?)(?:  #|$)", readme, re.MULTILINE)
    done = dml(name, *command.strip().replace("RUN", str(run)).split(), "--output", tmp_path / "drawn.svg")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "drawn.svg").read_text(encoding="utf-8").endswith("</svg>\n")


def test_a_run_is_measured_again_and_says_whether_it_is_the_same(
    smoke_run: Path, dml: Callable[..., Result], tmp_path: Path
) -> None:
    done = dml("evaluate", smoke_run)
    assert done.exit_code == 0 and "to the last digit" in done.stdout
    assert dml("evaluate", smoke_run, "--checkpoint", "last", "--device", "cpu").exit_code == 0
    done = dml("evaluate", smoke_run, "--data", tmp_path)
    assert done.exit_code == 2 and str(tmp_path) in done.stderr
