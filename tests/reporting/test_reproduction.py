import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from dml.config import ConfigError, TrainConfig
from dml.reporting.reproduction import (
    Job,
    NothingCompleteError,
    check_jobs,
    plan_jobs,
    report_table,
    report_tables,
    run_jobs,
    table_folders,
)
from dml.reporting.table_files import Table, TableRow, spelled_row

Compose = Callable[..., TrainConfig]
SMOKE = ("debug=smoke", "trainer.max_steps=0", "evaluator.classes=20")


def small_table(*rows: str, **changes: Any) -> Table:
    """A table of one group."""
    group = tuple(map(spelled_row, rows or ("emoji/gap", "emoji/gsp")))
    return replace(Table("small", (group,), (0, 1), ("map@r",), overrides=SMOKE), **changes)


def test_a_table_needs_each_row_seed_and_fold_once(tmp_path: Path) -> None:
    jobs = plan_jobs(small_table(folds=3, overrides=("protocol=mlrc",)), tmp_path, limit=7)
    assert len({job.folder for job in jobs}) == len(jobs) == 2 * 2 * 3
    assert jobs[-1].folder == tmp_path / "gsp" / "seed1_fold2" and jobs[-1].state == "missing"
    expected = "experiment=emoji/gsp protocol.fold=2 seed=1 protocol=mlrc trainer.max_steps=7"
    assert jobs[-1].command.startswith(f"dml train {expected} trainer.eval_every=7")
    assert " memory.start_step=0 evaluator.classes=20 " in jobs[-1].command
    assert jobs[-1].command.endswith(f"hydra.run.dir={tmp_path / 'gsp' / 'seed1_fold2'}")


def test_an_unfinished_run_is_resumed_and_a_finished_one_left_alone(smoke_run: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke_run, tmp_path / "run")
    job = Job(spelled_row("emoji/gsp_zero_shot"), tmp_path / "run", ("debug=smoke",))
    assert job.state == "finished" and list(run_jobs([job], processes=1)) == []
    (tmp_path / "run" / "metrics.json").unlink()
    assert job.state == "unfinished" and job.command == f"dml train resume={tmp_path / 'run'}"


def test_missing_runs_are_run_and_a_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    table = small_table("emoji/gap", "emoji/nothing", seeds=(0,))
    jobs = plan_jobs(table, tmp_path)
    lines = sorted(run_jobs(jobs, processes=2), key=lambda line: "FAILED" in line)
    assert [job.state for job in jobs] == ["finished", "missing"]
    assert f"{tmp_path / 'gap' / 'seed0'} took" in lines[0] and "nothing/seed0 FAILED" in lines[1]
    tables, notes = report_table(table, tmp_path, ["map@r"])
    assert [row.label for row in tables[0].rows] == ["gap"] and notes == ["not begun: nothing"]


def test_runs_side_by_side_take_a_place_each_and_give_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, both = [], Barrier(2, timeout=60)

    def run(command: list[str], *, env: dict[str, str], **options: object) -> SimpleNamespace:
        seen.append((env["DML_JOB"], env["DML_JOBS"]))
        both.wait()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr("dml.reporting.reproduction.subprocess.run", run)
    monkeypatch.setenv("DML_JOB", "7")  # of a job that starts these jobs
    jobs = plan_jobs(small_table(), tmp_path)
    assert len(list(run_jobs(jobs, processes=2))) == 4
    assert sorted(seen) == [("0", "2"), ("0", "2"), ("1", "2"), ("1", "2")]


def test_a_folder_with_a_run_of_other_settings_is_refused_before_anything_runs(
    tmp_path: Path, compose_config: Compose
) -> None:
    jobs = plan_jobs(small_table(), tmp_path)
    check_jobs(jobs)
    jobs[0].folder.mkdir(parents=True)
    cfg = compose_config(*jobs[0].overrides, "loss=triplet")
    OmegaConf.save(
        OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)), jobs[0].folder / "config.yaml"
    )
    with pytest.raises(
        ConfigError, match=r"gap/seed0 holds a run with loss\._target_=.*move that folder away"
    ):
        check_jobs(jobs)


@pytest.mark.parametrize("bad", ["experiment=emoji/nothing", "sede=7"])
def test_a_command_that_does_not_compose_is_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dml train .* does not compose"):
        check_jobs([Job(spelled_row("emoji/gap"), tmp_path, (bad,))])


def test_the_rows_are_compared_within_their_group(folds: Path) -> None:
    (folds / "gap").mkdir()
    for seed in ("seed0", "seed1"):
        shutil.move(folds / seed, folds / "gap" / seed)
    shutil.copytree(folds / "gap", folds / "gsp")
    tables, notes = report_table(small_table(folds=3), folds, ["recall@1"])
    assert [table.reading for table in tables] == ["separated", "concatenated"] and notes == []
    assert tables[0].baselines == {"gsp": "gap"}
    difference = tables[0].rows[1].figures["recall@1"].difference
    assert difference is not None and (difference.mean, difference.count) == (0, 2)


def test_a_table_of_which_nothing_is_complete_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing of the table .* is complete yet:\nnot begun: gap"):
        report_table(small_table(), tmp_path, ["map@r"])


def test_wrong_limits_and_processes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="limit=0"):
        plan_jobs(small_table(), tmp_path, limit=0)
    with pytest.raises(ConfigError, match="processes=0"):
        list(run_jobs([], processes=0))


def test_a_row_with_overrides_has_its_own_folder_name_and_command(tmp_path: Path) -> None:
    row = "emoji/gsp pooling.sharpness=20 zero_shot.weight=0"
    table = small_table(row, seeds=(3,), overrides=())
    (job,) = plan_jobs(table, tmp_path)
    assert job.folder == tmp_path / "gsp_pooling.sharpness_20_zero_shot.weight_0" / "seed3"
    assert job.overrides == ("experiment=emoji/gsp", "pooling.sharpness=20", "zero_shot.weight=0", "seed=3")
    check_jobs([job])
    with pytest.raises(ValueError, match=r"not begun: gsp pooling\.sharpness=20 zero_shot\.weight=0"):
        report_table(table, tmp_path, ["map@r"])


def test_the_runs_of_a_row_are_found_in_the_folder_that_it_formerly_had(folds: Path) -> None:
    shutil.copytree(folds / "seed0", folds / "cub_mlrc" / "c2_gap" / "seed0")
    row = TableRow("contrastive_gap", ("pooling=gap",), former="c2_gap")
    table = small_table(groups=((row,),), folds=3)
    tables, notes = report_table(table, folds / "cub_mlrc", ["recall@1"])
    assert [found.label for found in tables[0].rows] == ["contrastive_gap"] and not notes
    assert plan_jobs(table, folds / "cub_mlrc")[0].folder == folds / "cub_mlrc" / "c2_gap" / "seed0_fold0"


def test_several_tables_have_a_folder_each_and_one_has_that_which_was_asked_for() -> None:
    tables = [small_table(name=name) for name in ("cub_mlrc", "cars_mlrc")]
    assert table_folders(tables, None)["cub_mlrc"] == Path("runs/tables/cub_mlrc")
    assert table_folders(tables, "x", limit=3)["cars_mlrc"] == Path("x/cars_mlrc_limit3")
    assert table_folders(tables[:1], "x", limit=3) == {"cub_mlrc": Path("x")}


def test_a_table_with_nothing_complete_is_a_note_beside_others_and_an_error_alone(folds: Path) -> None:
    shutil.move(folds / "seed0", folds / "gap" / "seed0")
    tables = [
        small_table("emoji/gap", name="here", folds=3, metrics=("recall@1",)),
        small_table(name="there"),
    ]
    reports = report_tables(tables, {"here": folds, "there": folds / "there"})
    assert len(reports["here"][0]) == 2 and reports["there"][0] == []
    assert "there is complete yet:\nnot begun: gap" in reports["there"][1][0]
    with pytest.raises(NothingCompleteError, match="complete yet"):
        report_tables(tables[1:], {"there": folds / "there"})
