import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_script_refuses_a_key_that_does_not_exist(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/sweep.py", "space=gsp", "trials=1", f"folder={tmp_path}"]
    result = subprocess.run([*command, "overrides=[sede=7]"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "does not compose" in result.stderr and "sede" in result.stderr
