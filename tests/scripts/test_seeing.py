"""The two scripts that draw what a run does, from the command line to the file."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dml.config import TrainConfig
from tests.photographs import write_finished_run

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def run(compose_smoke: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finished_run(tmp_path_factory.mktemp("seeing"), compose_smoke)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a script in this process, which saves its imports."""

    def call(name: str, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")

    return call


def test_attention_draws_the_images_that_are_named(
    run: Path, script: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oak = run.parent / "photographs" / "test" / "oak"
    script(
        "attention",
        f"run={run}",
        f"images=[{oak}/0.png,{oak}/1.png]",
        f"output={tmp_path / 'a.png'}",
        "count=1",
    )
    assert capsys.readouterr().out == f"1 of 2 images: {tmp_path / 'a.png'}\n"
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height > 100


@pytest.mark.parametrize("name", ["attention", "retrieval_grid"])
def test_without_an_output_the_figure_lies_in_the_run_folder(
    name: str, run: Path, script: Callable[..., None]
) -> None:
    script(name, f"run={run}", "count=1")
    assert (run / f"{name}.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["attention", "retrieval_grid"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "error: no configuration at nowhere/config.yaml"),
        (["run=nowhere", "output=a.bmp"], "error: output=a.bmp: the ending says the format"),
        (["count=2"], "error: run= is required"),
    ],
)
def test_wrong_input_ends_with_a_sentence(
    name: str,
    arguments: list[str],
    message: str,
    script: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        script(name, *arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["attention", "retrieval_grid"])
def test_the_command_of_the_readme_draws(
    name: str, run: Path, script: Callable[..., None], tmp_path: Path
) -> None:
    readme = (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"^    python scripts/{name}.py (.*?)(?:  #|$)", readme, re.MULTILINE)
    script(name, *command.strip().replace("FOLDER", str(run)).split(), f"output={tmp_path / 'drawn.svg'}")
    assert (tmp_path / "drawn.svg").read_text(encoding="utf-8").endswith("</svg>\n")
