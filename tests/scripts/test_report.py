import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/report.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_wrong_input_ends_with_a_sentence() -> None:
    result = report("runs=nowhere/**")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "error: no run folder matches 'nowhere/**'" in result.stderr


def test_a_finished_run_becomes_a_table_in_every_format(smoke_run: Path, tmp_path: Path) -> None:
    result = report(f"runs={smoke_run}", f"output={tmp_path / 'table'}", "metrics=[r_precision]")
    assert result.returncode == 0 and "r_precision" in result.stdout, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.md", "table.tex"]
