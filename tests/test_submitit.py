"""Hydra's launcher for SLURM, in its local mode."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_sweep_runs_as_jobs_of_their_own(tmp_path: Path) -> None:
    launcher = [
        "hydra/launcher=submitit_local",
        "hydra.launcher.timeout_min=10",
        f"hydra.sweep.dir={tmp_path}",
    ]
    job = ["debug=smoke", "trainer.max_steps=0", "transform.size=8", "pooling=gap,gsp"]
    command = [sys.executable, "train.py", "-m", *launcher, *job]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    finished = {path.parent.name for path in tmp_path.rglob("metrics.json")}
    assert [("pooling=gap" in name, "pooling=gsp" in name) for name in sorted(finished)] == [
        (True, False),
        (False, True),
    ]
