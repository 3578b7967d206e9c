"""Places that lack something: no home, no temporary folder, another encoding, a disk that takes nothing."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.reporting.streams import accept_any_text
from dml.reporting.surroundings import OutputFolder

ROOT = Path(__file__).parent.parent
NO_TEMPORARY_FOLDER = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/dev/null/tmp']"
BARE = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**BARE, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_without_a_home_and_with_ascii_alone_a_run_ends_as_elsewhere(tmp_path: Path) -> None:
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/dev/null/home"}
    arguments = [
        "debug=smoke",
        "trainer.max_steps=0",
        "evaluator.classes=20",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    done = run("train.py", *arguments, **ascii_alone)
    assert done.returncode == 0, done.stderr
    assert "map@r" in done.stdout and "warning: file names are in ascii here" in done.stderr
    assert "PYTHONUTF8=1" in done.stderr and (tmp_path / "run" / "metrics.json").exists()


def test_without_a_temporary_folder_it_says_which_variable_gives_one(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TEMPORARY_FOLDER)
    done = run("-c", "import dml", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 1
    assert "no folder for temporary files can be written to" in done.stderr.splitlines()[-1]
    assert "TMPDIR=" in done.stderr


def test_a_run_folder_that_cannot_be_made_ends_with_a_sentence() -> None:
    done = run("train.py", "debug=smoke", "hydra.run.dir=/dev/null/run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: the run folder /dev/null/run cannot be made: ")
    assert done.stderr.rstrip().endswith("choose another place by paths.runs=DIR or hydra.run.dir=DIR")


def test_the_folder_of_a_sweep_that_cannot_be_made_does_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    config = OmegaConf.create({"hydra": {"sweep": {"dir": "/dev/null/runs"}}})
    with pytest.raises(SystemExit) as end:
        OutputFolder().on_multirun_start(config)
    assert end.value.code == 2 and "or hydra.sweep.dir=DIR" in capsys.readouterr().err


def test_what_a_terminal_cannot_show_is_escaped_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    accept_any_text()
    print("✓ ×", "\udcff", flush=True)
    assert written.getvalue().split() == [b"\\u2713", b"\\xd7", b"\\udcff"]
