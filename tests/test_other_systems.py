"""A system without what only Linux and macOS have: it trains to the same bits. Workers: data/test_spawned_workers.py"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ELSEWHERE = """
import os, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("fork", "getpgid", "killpg", "sched_getaffinity", "setsid", "statvfs"):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "sigwaitinfo"):
    delattr(signal, name)
"""  # runs at the start of every process


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a process on such a system."""
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONWARNINGS": "ignore"}


def test_every_module_and_script_is_imported(elsewhere: dict[str, str]) -> None:
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "train.py", *(ROOT / "dml").rglob("*.py"), *(ROOT / "scripts").glob("*.py"))
    )
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], cwd=ROOT, env=elsewhere, capture_output=True, text=True
    )
    assert len(modules) > 100 and done.returncode == 0, done.stderr


def test_it_trains_to_the_same_bits(elsewhere: dict[str, str], smoke_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "debug=smoke", "trainer.max_steps=2", "evaluator.classes=20"]
    folder = tmp_path / "runs" / "run"
    done = subprocess.run(
        [*command, f"hydra.run.dir={folder}"], cwd=ROOT, env=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.json").exists() and not (folder / ".lock").exists()
    here, there = (
        (run / "steps.csv").read_text(encoding="utf-8").splitlines() for run in (smoke_run, folder)
    )
    assert len(there) == 3 and there[:2] == here[:2]  # in the second step another length has another rate
