import shutil
from pathlib import Path

from tests.commands.conftest import Dml


def test_several_runs_become_a_table_and_one_page(dml: Dml, smoke_run: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        shutil.copytree(smoke_run, tmp_path / str(seed), ignore=shutil.ignore_patterns("tensorboard"))
    config = tmp_path / "1" / "config.yaml"
    config.write_text(config.read_text().replace("\nseed: 0\n", "\nseed: 1\n"))
    result = dml("report", tmp_path / "*", "--html", tmp_path / "both.html")
    assert result.exit_code == 0 and "map@r" in result.stdout, result.stderr
    assert result.stdout.splitlines()[-1] == str(tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "Settings that differ" in page and "seed" in page


def test_the_page_of_one_run_is_made_again(dml: Dml, smoke_run: Path, tmp_path: Path) -> None:
    result = dml("report", smoke_run, "--html", tmp_path / "again.html")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "again.html").stat().st_size > 100_000


def test_a_folder_without_a_run_ends_with_a_sentence(dml: Dml, tmp_path: Path) -> None:
    result = dml("report", tmp_path, "--html", tmp_path / "page.html")
    assert result.exit_code == 2 and "no run folder matches" in result.stderr
