"""What README.md tells people to type works as written."""

import itertools
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from dml.config import TrainConfig
from tests.children import run_dml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("  #")[0].strip() for line in re.findall(r"^ {4}(\S.*)$", README, re.MULTILINE)]
TRAINING = [command for command in COMMANDS if command.startswith("dml train")]


def run(command: str, **places: Path) -> str:
    """Run a command of the README, its places filled in."""
    for name, path in places.items():
        command = command.replace(name, str(path))
    words = shlex.split(command)
    assert words[0] == "dml"
    result = run_dml(*words[1:])
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_the_commands_are_found() -> None:
    assert len(TRAINING) >= 7 and "make train" in COMMANDS and "make test" in COMMANDS


def test_make_knows_the_two_commands() -> None:
    for target in ("train", "test", "check"):
        result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", TRAINING)
def test_every_training_command_composes(command: str, compose_config: Callable[..., TrainConfig]) -> None:
    words = [word for word in shlex.split(command)[2:] if not word.startswith(("-", "hydra."))]
    overrides = OverridesParser.create().parse_overrides(words)
    choices = [
        list(o.sweep_string_iterator()) if o.is_sweep_override() else [str(o.get_value_string())]
        for o in overrides
    ]
    for values in itertools.product(*choices):
        cfg = compose_config(*(f"{o.key_or_group}={v}" for o, v in zip(overrides, values, strict=True)))
        assert cfg.backbone and cfg.pooling and cfg.loss


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two settings over two seeds, by the sweep of the README cut down to the smoke run."""
    folder = tmp_path_factory.mktemp("sweep") / "emoji"
    (command,) = [command for command in TRAINING if "experiment=" in command]
    command = re.sub(r"experiment=\S+", "experiment=emoji/gap,emoji/gsp", command)
    run(
        re.sub(r"seed=\S+", "seed=0,1", command) + " debug=smoke trainer.max_steps=1 evaluator.classes=50",
        **{"runs/emoji": folder},
    )
    return folder


def test_the_sweep_and_its_report_give_the_table(sweep: Path) -> None:
    (command,) = [
        command for command in COMMANDS if command.startswith("dml report") and "--baseline" in command
    ]
    run(command + f" --output {sweep / 'table.md'}", **{"runs/emoji": sweep})
    header, _, gap, gsp, *_ = (sweep / "table.md").read_text().splitlines()
    assert "Δ map@r" in header and "GlobalAveragePooling" in gap and "GeneralizedSumPooling" in gsp


def test_a_run_is_measured_again_to_the_last_digit(sweep: Path) -> None:
    (command,) = [command for command in COMMANDS if command.startswith("dml evaluate")]
    folder = next(path.parent for path in sweep.rglob("metrics.json"))
    assert "to the last digit" in run(command, RUN=folder)


def test_the_python_example_embeds_pictures(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    folder = next(path.parent for path in sweep.rglob("metrics.json"))
    code = re.sub(r'load_model\(".*?"\)', f'load_model("{folder}")', code)
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(
            name
        )
    names: dict[str, object] = {}
    exec(code, names)
    assert names["vectors"].shape == (2, 128)  # type: ignore[attr-defined]


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
