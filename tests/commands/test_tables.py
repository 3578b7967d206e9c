"""The commands about many runs, from the command line to tables and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from dml.commands.tables import output_paths

Dml = Callable[..., Result]


def test_runs_that_are_none_end_with_a_sentence(dml: Dml, smoke_run: Path) -> None:
    for runs in (["nowhere/**"], [smoke_run, "nowhere/**"]):
        done = dml("report", *runs)
        assert done.exit_code == 2 and "error: no run folder matches 'nowhere/**'" in done.stderr


def test_finished_runs_become_a_table_in_every_format(smoke_run: Path, dml: Dml, tmp_path: Path) -> None:
    done = dml(
        "report",
        smoke_run,
        f"{smoke_run.parent}/**",
        "--output",
        tmp_path / "table",
        "--metric",
        "r_precision",
    )
    assert done.exit_code == 0 and "r_precision" in done.stdout and "map@r" not in done.stdout, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.md", "table.tex"]


@pytest.mark.parametrize("name", ["runs [1]", "runs #2"])
def test_a_folder_that_looks_like_a_pattern_is_a_folder(
    name: str, smoke_run: Path, dml: Dml, tmp_path: Path
) -> None:
    (tmp_path / name).symlink_to(smoke_run)
    assert dml("report", tmp_path / name).exit_code == 0


def test_the_commands_of_a_table_are_printed_without_running_them(dml: Dml, tmp_path: Path) -> None:
    done = dml("reproduce", "emoji_mlrc", "--no-run", "--folder", tmp_path)
    commands = [line for line in done.stdout.splitlines() if line.startswith("missing")]
    assert len(commands) == 16 and all("dml train experiment=emoji/" in line for line in commands)
    assert done.exit_code == 2 and "complete yet" in done.stderr and not any(tmp_path.iterdir())


def test_a_product_is_narrowed_and_has_a_folder_for_each_of_its_tables(dml: Dml, tmp_path: Path) -> None:
    narrowed = ["--set", "cub", "--set", "cars", "--loss", "c1", "--pooling", "gap", "--limit", 5]
    done = dml("reproduce", "mlrc", *narrowed, "--no-run", "--folder", tmp_path)
    commands = done.stdout.splitlines()
    assert len(commands) == 2 * 4 * 10 and commands[0].startswith(
        "missing     dml train published=mlrc dataset=cub"
    )
    assert commands[-1].endswith(f"hydra.run.dir={tmp_path}/cars_mlrc_limit5/c1_gap/seed9_fold3")
    assert done.stderr.count("is complete yet") == 2


def test_several_tables_have_files_of_their_own(tmp_path: Path) -> None:
    assert output_paths(f"{tmp_path}/t.md", "cub_mlrc", 2) == [tmp_path / "t_cub_mlrc.md"]
    endings = [tmp_path / f"t.{ending}" for ending in ("md", "csv", "tex")]
    assert output_paths(f"{tmp_path}/t", "cub_mlrc", 1) == endings and output_paths(None, "cub_mlrc", 2) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "mlcr"], "error: table=mlcr"),
        (["reproduce", "emoji_mlrc", "--limit", 0], "error: limit=0"),
        (["study", "--limit", 0], "error: limit=0"),
        (["sweep", "gps", "--trials", 1], "error: space=gps does not exist; accepted: gsp, learning_rates"),
        (["sweep", "gsp"], "Missing option '--trials'"),
        (
            ["sweep", "gsp", "--trials", 1, "sede=7"],
            "does not compose: sede: there is no such key; did you mean seed",
        ),
    ],
)
def test_wrong_input_ends_with_a_sentence(
    arguments: list[object], message: str, dml: Dml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = dml(*arguments)
    assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())
