"""What README.md and the pages in docs/ tell people to type works as written."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from typer.main import get_command

from dml.commands import app
from dml.config import TrainConfig
from dml.overrides import as_typed
from tests.children import run_dml
from tests.index.test_commands import dml

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
RESULTS = ROOT / "docs" / "results.md"


def commands(page: Path) -> list[str]:
    lines = re.findall(r"^ {4}(\S.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [line.split("  #")[0].strip() for line in lines]


def code(page: Path) -> str:
    """The one block of Python of a page."""
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


README = commands(ROOT / "README.md")
# Those of tables, sweeps and the study are held by tests/published/test_documents.py.
ELSEWHERE = {"tables.md", "sweep.md", "results.md"}
TYPED = README + [line for page in DOCS if page.name not in ELSEWHERE for line in commands(page)]
# Those with --config-dir need a folder of one's own, which their tests make.
LEFT_OUT = re.compile(r" \.\.\. |--config-dir")
TRAINING = sorted({line for line in TYPED if line.startswith("dml train") and not LEFT_OUT.search(line)})
OF_A_RUN = [line for line in README if re.search(r"\bRUN\b", line)]
SEARCH = [line for line in README if "emoji.index" in line or "dml calibrate" in line]


def run(command: str, **places: Path) -> str:
    """Run a command, its places filled in."""
    for name, path in places.items():
        command = command.replace(name, str(path))
    words = shlex.split(command)
    assert words[0] == "dml"
    result = run_dml(*words[1:])
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_the_commands_are_found() -> None:
    assert len(TRAINING) >= 30 and "make train" in README and "make test" in README
    assert len(OF_A_RUN) == 5 and len(SEARCH) == 4


def test_make_knows_its_commands() -> None:
    for target in ("train", "test", "check", "docs"):
        result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", TRAINING)
def test_every_training_command_composes(command: str, compose_config: Callable[..., TrainConfig]) -> None:
    typed = [word for word in shlex.split(command)[2:] if not word.startswith(("-", "hydra"))]
    words = as_typed(typed)
    overrides = OverridesParser.create().parse_overrides(words)
    choices = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [word]
        for o, word in zip(overrides, words, strict=True)
    ]
    for number in range(max(map(len, choices), default=1)):  # each value once, not each combination
        cfg = compose_config(*(values[min(number, len(values) - 1)] for values in choices))
        assert cfg.backbone and cfg.pooling and cfg.loss


OTHERS = sorted(
    {
        line
        for page in (ROOT / "README.md", *DOCS)
        for line in commands(page)
        if re.match(r"dml (?!train)\w", line)
    }
)


@pytest.mark.parametrize("command", OTHERS)
def test_every_other_command_is_one_of_today_with_its_options(command: str) -> None:
    part, words = get_command(app), shlex.split(command)[1:]
    while below := getattr(part, "commands", None):
        part = below[words.pop(0)]
    part.make_context(command, words)


@pytest.fixture(scope="module")
def folder(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to type in, with a run, a few of the embedded drawings and two images."""
    folder = tmp_path_factory.mktemp("typed")
    for name in ("RUN", "OTHER", "runs/emoji", "runs/mine"):
        shutil.copytree(smoke_run, folder / name)
    other = folder / "OTHER" / "config.yaml"  # the same run again would be refused
    text = other.read_text(encoding="utf-8")
    other.write_text(re.sub(r"^seed: \d+$", "seed: 1", text, flags=re.MULTILINE), encoding="utf-8")
    with zipfile.ZipFile(ROOT / "data" / "emoji" / "emoji.zip") as drawings:
        few = [name for name in drawings.namelist() if re.match("rocket|zzz", name)]
        drawings.extractall(folder / "emoji", few)
    for name in ("a.jpg", "b.jpg"):
        pixels = np.random.default_rng(ord(name[0])).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "data").symlink_to(ROOT / "data")
    return folder


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_a_run_becomes_a_search(place: Path) -> None:
    """But for the precision, which the smoke run has not."""
    said = []
    for command in SEARCH:
        done = dml(*shlex.split(command.replace("--precision 0.5", "--false-match-rate 0.1"))[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"
        said.append(done.stdout)
    built, calibrated, found, _ = said
    assert "images; " in built and "a match is " in calibrated
    assert re.search(r"1\.0000  emoji/rocket/noto\.webp +match", found)


@pytest.mark.parametrize("command", OF_A_RUN)
def test_what_a_run_can_do_is_done(command: str, place: Path) -> None:
    done = dml(*shlex.split(command)[1:])
    assert done.exit_code == 0, f"{command}\n{done.output}"
    assert "dml evaluate" not in command or "to the last digit" in done.stdout


def test_the_python_example_embeds_images(place: Path) -> None:
    names: dict[str, object] = {}
    exec(code(ROOT / "README.md"), names)
    assert names["vectors"].shape == (2, 128)  # type: ignore[attr-defined]


def test_test_embeddings_are_read_as_the_page_says(place: Path) -> None:
    names: dict[str, object] = {}
    exec(re.sub(r'"runs/[^"]*/', '"RUN/', code(ROOT / "docs" / "reading_a_run.md")), names)
    assert np.allclose(np.diag(names["similarity"]), 1, atol=1e-5)  # type: ignore[call-overload]


def test_a_run_of_a_trusted_package_is_loaded_as_the_page_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "mypackage.py").write_text(
        "from dml.pooling import GeneralizedSumPooling\n\n\nclass Mine(GeneralizedSumPooling):\n    pass\n"
    )
    monkeypatch.syspath_prepend(place)
    config = place / "runs" / "mine" / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("dml.pooling.GeneralizedSumPooling", "mypackage.Mine")
    config.write_text(text, encoding="utf-8")
    names: dict[str, object] = {"dml": importlib.import_module("dml")}
    exec(code(ROOT / "docs" / "security.md"), names)
    assert type(names["model"].pooling).__name__ == "Mine"  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings over two seeds, by the sweep of the results cut down to the smoke run."""
    folder = tmp_path_factory.mktemp("sweep") / "emoji"
    (command,) = [line for line in commands(RESULTS) if line.startswith("dml train -m experiment=emoji")]
    command = re.sub(r"experiment=\S+", "experiment=emoji/gap,emoji/gsp", command)
    run(
        re.sub(r"seed=\S+", "seed=0,1", command) + " debug=smoke trainer.max_steps=1 evaluator.classes=50",
        **{"runs/emoji": folder},
    )
    return folder


def test_the_sweep_and_its_report_give_the_table(sweep: Path) -> None:
    (command,) = [line for line in commands(RESULTS) if line.startswith("dml report")]
    run(command + f" --output {sweep / 'table.md'}", **{"runs/emoji": sweep})
    header, _, gap, gsp, *_ = (sweep / "table.md").read_text().splitlines()
    assert "Δ map@r" in header and "GlobalAveragePooling" in gap and "GeneralizedSumPooling" in gsp


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)[)#]", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
