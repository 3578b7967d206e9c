from pathlib import Path

from tests.commands.conftest import Dml


def test_several_runs_become_one_page(dml: Dml, smoke_run: Path, tmp_path: Path) -> None:
    result = dml("page", smoke_run, smoke_run, "--to", tmp_path / "both.html")
    assert result.exit_code == 0 and result.stdout.strip() == str(tmp_path / "both.html"), result.stderr
    assert "Settings that differ" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_a_folder_without_a_run_ends_with_a_sentence(dml: Dml, tmp_path: Path) -> None:
    result = dml("page", tmp_path)
    assert result.exit_code == 2 and "error: no configuration at" in result.stderr
