import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def reproduce(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/reproduce.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_commands_of_a_table_are_printed_without_running_them(tmp_path: Path) -> None:
    result = reproduce("table=emoji_mlrc", "run=false", f"folder={tmp_path}")
    commands = [line for line in result.stdout.splitlines() if line.startswith("missing")]
    assert len(commands) == 16 and all("python train.py experiment=emoji/" in line for line in commands)
    assert result.returncode == 2 and "complete yet" in result.stderr and not any(tmp_path.iterdir())
