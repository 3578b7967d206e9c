"""Each command that dml prints is typed into a shell as it stands, of a run in a folder with a name of all trades."""

import ast
import glob
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.errors import UserError
from dml.locks import unlock_folder
from dml.reporting import readable_errors, report_runs
from dml.reporting.reproduction import Job
from dml.reporting.retrieval_grid import retrieval_grid_of_run
from dml.reporting.table_files import spelled_row
from dml.resuming import open_run, refuse_used
from dml.run_folder import RunFolder
from dml.runs import load_metrics
from dml.signals import Interrupted
from dml.train import train
from dml.training import Trainer

ROOT = Path(__file__).parent.parent
NAME = "0_seed=1,2 (été) #2 'a' \"b\" ${c} [d]"
Compose = Callable[..., TrainConfig]


def stopped_by(compose: Compose, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a run says that Ctrl-C ends in its fourth step."""
    update = Trainer._update

    def interrupted(trainer: Trainer, *batch: object) -> object:
        if trainer.step == 3:
            signal.raise_signal(signal.SIGINT)
        return update(trainer, *batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(Interrupted) as stop:
        patched.setattr(Trainer, "_update", interrupted)
        train(compose(), folder)
    return str(stop.value)


def messages(compose: Compose, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What else says how an unfinished run goes on."""
    run, typed = RunFolder(folder), ["resume=auto", "seed=7"]
    provoked: list[Callable[[], object]] = [
        lambda: load_metrics(folder),
        lambda: refuse_used(run),
        lambda: open_run(compose(*typed), folder, overrides=typed),
        lambda: report_runs([glob.escape(str(folder))], ["recall@1"]),
        lambda: retrieval_grid_of_run(
            folder, order="hardest", count=1, neighbours=1, seed=0, checkpoint="best", data=None, device="cpu"
        ),
    ]
    said = []
    for provoke in provoked:
        with pytest.raises(UserError) as error:
            provoke()
        said.append(str(error.value))
    with pytest.raises(SystemExit):
        readable_errors(lambda: 1 / 0)()
    return [*said, capsys.readouterr().err, Job(spelled_row("emoji/gap"), folder, ()).command]


def test_every_printed_command_goes_on_with_the_run(
    compose_smoke: Compose,
    smoke_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / NAME
    hydra = {"overrides": {"task": []}, "runtime": {"output_dir": "???"}, "mode": "RUN"}
    said = [stopped_by(compose_smoke, folder, monkeypatch)]
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(hydra))
    hydra["runtime"] = {"output_dir": str(folder).replace("${", "\\${")}
    said += messages(compose_smoke, folder, capsys)
    found = [re.findall(r"dml train .*", message) for message in said]
    assert all(len(commands) == 1 for commands in found), said
    (command,) = {command for (command,) in found}
    unlock_folder(folder)
    typed = command.replace("dml", f"{sys.executable} -m dml", 1)
    result = subprocess.run(["bash", "-c", typed], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stderr}"
    assert load_metrics(folder) == load_metrics(smoke_run)


def test_no_other_place_puts_values_into_commands() -> None:
    makers = []
    for path in [*ROOT.glob("dml/**/*.py"), *ROOT.glob("scripts/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                before = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                if re.search(r"(dml train [^{]*|\b(resume|hydra\.run\.dir)=)\{\}", "".join(map(str, before))):
                    makers.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert makers == []
