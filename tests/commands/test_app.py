"""What the command says, what it takes literally, and what it does not import for that."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import Result

import dml as package
from dml.commands import app

ROOT = Path(__file__).parents[2]
NAMES = sorted(get_command(app).commands)  # type: ignore[attr-defined]
OF_A_RUN = ("attention", "evaluate", "grid", "verify")
HEAVY = (
    "torch",
    "numpy",
    "scipy",
    "matplotlib",
    "timm",
    "torchvision",
    "pytorch_metric_learning",
    "faiss",
    "optuna",
)
# what YAML or a shell of ours would make something else of
LITERAL = (
    "photos #2",
    "2024_11_05",
    "007",
    "1e3",
    "on",
    "null",
    "~",
    "12:30:00",
    "[a,b]",
    "a=b",
    "{a: b}",
    "été",
)

Dml = Callable[..., Result]


def loaded(*arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and the packages that it has imported."""
    code = (
        "import sys, atexit; atexit.register(lambda: print('\\nLOADED', *sys.modules));"
        "from dml.commands import main; main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, {name.partition(".")[0] for name in done.stdout.rpartition("LOADED")[2].split()}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["evaluate", "--help"], ["reproduce", "--help"]]
)
def test_help_imports_neither_hydra_nor_what_computes(arguments: list[str]) -> None:
    code, modules = loaded(*arguments)
    assert code == 0 and "typer" in modules and not modules & {*HEAVY, "hydra", "omegaconf", "yaml"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--help"], 0),
        (["train", "sede=7"], 2),
        (["train", "+sede=7"], 2),
        (["train", "-m", "sede=7,8"], 2),
        (["train", "pooling=gpa"], 2),
        (["train", "pooling.sharpnes=3"], 2),
        (["train", "trainer.max_steps=abc"], 2),
    ],
)
def test_hydra_refuses_and_helps_before_anything_that_computes_is_imported(
    arguments: list[str], expected: int
) -> None:
    code, modules = loaded(*arguments)
    assert code == expected and "hydra" in modules and not modules & set(HEAVY)


def test_the_help_of_train_is_that_of_the_command_with_the_groups() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dml", "train", "-h"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("Train an embedding") and "pooling: cbam, crow" in done.stdout


def test_the_package_is_imported_without_what_it_needs_later() -> None:
    code = "import sys, dml; print(dml.__version__, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    version, *modules = done.stdout.split()
    assert version == package.__version__ and not {*HEAVY, "hydra", "typer"} & {
        m.partition(".")[0] for m in modules
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_command_says_what_it_does_in_a_line_that_the_list_shows_whole(name: str, dml: Dml) -> None:
    (line,) = re.findall(rf"^  {name} +(.*)$", dml("--help").stdout, re.MULTILINE)
    assert (
        line
        and "..." not in line
        and line[-1] in ".?"
        and line in (get_command(app).commands[name].help or "")
    )  # type: ignore[attr-defined]


def test_a_name_that_is_none_is_answered_with_a_near_one(dml: Dml) -> None:
    done = dml("evalute")
    assert done.exit_code == 2 and "evaluate" in done.stderr
    done = dml("evaluate", "run", "--dta", "x")
    assert done.exit_code == 2 and "--data" in done.stderr


@pytest.mark.parametrize("text", LITERAL)
@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_folder_is_what_was_typed(
    name: str, text: str, dml: Dml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = dml(name, text)
    assert done.exit_code == 2 and f"no configuration at {text}/config.yaml" in done.stderr


@pytest.mark.parametrize("text", [*LITERAL, "run=photos"])
def test_so_are_the_folder_of_reports_and_a_folder_that_is_called_as_an_argument_was(
    text: str, dml: Dml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"no run folder matches {text!r}" in dml("report", text).stderr
    Path(text).mkdir()
    assert f"no configuration at {text}/config.yaml" in dml("evaluate", text).stderr


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("evaluate run=a data=b trust=[c,d]", "dml evaluate a --data b --trust c --trust d"),
        ("attention run=a images=[b.jpg,c.jpg] count=2", "dml attention a b.jpg c.jpg --count 2"),
        (
            "report runs=runs/** baseline=loss=c1 metrics=[map@r]",
            "dml report 'runs/**' --baseline loss=c1 --metric map@r",
        ),
        ("reproduce table=mlrc sets=[cub] run=false", "dml reproduce mlrc --set cub --no-run"),
        ("study run=true processes=2", "dml study --processes 2"),
        ("sweep space=gsp trials=3 overrides=[pooling=gap]", "dml sweep gsp --trials 3 pooling=gap"),
        ("prepare dataset=cub archive=a.tgz", "dml prepare cub --archive a.tgz"),
    ],
)
def test_who_types_a_key_is_told_the_command_of_today(former: str, now: str, dml: Dml) -> None:
    done = dml(*former.split())
    assert done.exit_code == 2 and f"as in: {now}\n" in done.stderr


def test_python_m_dml_is_the_command_and_names_itself_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dml", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == f"dml {package.__version__}\n"
