"""Nothing that is printed may end what a command does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FULL = Path("/dev/full")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
COMMAND = """
import sys
from dml.reporting import readable_errors

@readable_errors
def command():
    for _ in range({lines}):
        print("a line of text that is long enough to fill a buffer soon", flush={flush})
    sys.stderr.write("done\\n")

command()
"""

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def run(command: str, redirected: str) -> subprocess.CompletedProcess[str]:
    """A command of the shell, with its streams redirected."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {redirected}"],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip


def python(lines: int, redirected: str, *, flush: bool = False) -> subprocess.CompletedProcess[str]:
    code = COMMAND.format(lines=lines, flush=flush)
    return run(f"{sys.executable} -c '{code}'", redirected)


@pytest.mark.parametrize(("lines", "flush"), [(1, False), (1, True), (3000, False)])
def test_a_command_that_prints_where_nothing_can_be_written_does_all_it_has_to_and_says_so(
    lines: int, flush: bool
) -> None:
    done = python(lines, "> /dev/full", flush=flush)
    assert "done" in done.stderr and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.stderr.count("cannot be written and is lost ([Errno 28] No space left on device)") == 1
    assert done.returncode == 1  # what it printed was all there was


@pytest.mark.parametrize("redirected", ["2> /dev/full", "2>&-", ">&- 2>&-"])
def test_standard_error_that_takes_nothing_and_closed_streams_end_nothing(redirected: str) -> None:
    assert python(3, redirected).returncode == 0


def test_a_reader_that_has_left_ends_nothing() -> None:
    done = python(3000, "| head -n 1", flush=True)
    assert "done" in done.stderr and "Broken pipe" in done.stderr and done.stdout.count("\n") == 1


def test_a_run_whose_output_and_log_cannot_be_written_ends_with_its_figures(tmp_path: Path) -> None:
    words = "debug=smoke trainer.max_steps=1 evaluator.classes=20"
    command = f"{sys.executable} train.py {words} hydra.run.dir={tmp_path / 'run'}"
    done = run(command, "> /dev/full")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.json").exists() and "Traceback" not in done.stderr
    assert done.stderr.count("is lost") == 1
