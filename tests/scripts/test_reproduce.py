import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def reproduce(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/reproduce.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_commands_of_a_table_are_printed_without_running_them(tmp_path: Path) -> None:
    result = reproduce("table=emoji_mlrc", "run=false", f"folder={tmp_path}")
    commands = [line for line in result.stdout.splitlines() if line.startswith("missing")]
    assert len(commands) == 16 and all("python train.py experiment=emoji/" in line for line in commands)
    assert result.returncode == 2 and "complete yet" in result.stderr and not any(tmp_path.iterdir())


def test_a_product_is_narrowed_and_has_a_folder_and_files_for_each_of_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(ROOT / "scripts" / "reproduce.py")
    arguments = ["table=mlrc", "sets=[cub,cars]", "losses=[c1]", "poolings=[gap]", "limit=5", "run=false"]
    monkeypatch.setattr(sys, "argv", [script, *arguments, f"folder={tmp_path}"])
    with pytest.raises(SystemExit):
        runpy.run_path(script, run_name="__main__")
    printed, refused = capsys.readouterr()
    commands = printed.splitlines()
    assert len(commands) == 2 * 4 * 10 and commands[0].startswith(
        "missing     python train.py published=mlrc dataset=cub"
    )
    assert commands[-1].endswith(f"hydra.run.dir={tmp_path}/cars_mlrc_limit5/c1_gap/seed9_fold3")
    assert refused.count("is complete yet") == 2
    name = runpy.run_path(script)["output_paths"]
    assert name(f"{tmp_path}/t.md", "cub_mlrc", 2) == [tmp_path / "t_cub_mlrc.md"]
    assert name(f"{tmp_path}/t", "cub_mlrc", 1) == [
        tmp_path / f"t.{ending}" for ending in ("md", "csv", "tex")
    ]
    assert name(None, "cub_mlrc", 2) == []
