import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def page(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/page.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_several_runs_become_one_page(smoke_run: Path, tmp_path: Path) -> None:
    result = page(f"runs=[{smoke_run},{smoke_run}]", f"to={tmp_path / 'both.html'}")
    assert result.returncode == 0 and result.stdout.strip() == str(tmp_path / "both.html"), result.stderr
    assert "Settings that differ" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_a_folder_without_a_run_ends_with_a_sentence(tmp_path: Path) -> None:
    result = page(f"runs={tmp_path}")
    assert result.returncode == 2 and "error: no configuration at" in result.stderr
