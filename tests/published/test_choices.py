"""The rows that are files still, every choice of every group and every table are what they were."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.reporting.former_names import refuse_former_names
from dml.reporting.reproduction import check_jobs, plan_jobs
from dml.reporting.table_files import TABLES, read_tables
from tests.published.unchanged import BEFORE, assert_unchanged, before

Compose = Callable[..., TrainConfig]
NEAR = (
    "sampler=",
    "dataset=",
    "protocol=",
)  # the groups that the published settings choose from; others if slow
PRODUCTS = [row for row in BEFORE["rows"] if row.count("/") == 2]
ADDED = {("collage", "experiment=collage/told")}  # rows that tables got since
COMPOSED = [table for path in sorted(TABLES.glob("*.yaml")) for table in read_tables(path.stem)]


@pytest.mark.parametrize("row", [row for row in BEFORE["rows"] if row not in PRODUCTS])
def test_a_row_that_is_a_file_is_what_it_was(row: str, compose_config: Compose) -> None:
    assert_unchanged(compose_config(f"experiment={row}", "paths.data=data"), "rows", row)


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(choice, marks=[] if choice.startswith(NEAR) or not choice else pytest.mark.slow)
        for choice in BEFORE["choices"]
    ],
)
def test_a_choice_is_what_it_was(choice: str, compose_config: Compose) -> None:
    overrides = [choice] if choice else []
    assert_unchanged(compose_config(*overrides, "paths.data=data"), "choices", choice)


@pytest.mark.parametrize("name", BEFORE["tables"])
def test_a_table_has_its_rows_seeds_and_folds_and_finds_its_former_folders(name: str, tmp_path: Path) -> None:
    (table,) = [table for table in COMPOSED if table.name == name]
    was = BEFORE["tables"][name]
    groups = [[row for row in group if (name, *row.overrides) not in ADDED] for group in table.groups]
    assert [[row_of(old) for old, _ in group] for group in was["groups"]] == [
        [set(row.overrides) for row in group] for group in groups
    ]
    folders = [tmp_path / folder for group in was["groups"] for _, folder in group]
    for folder in folders:
        folder.mkdir()
    assert [row.folder(tmp_path) for group in groups for row in group] == folders
    rest = (list(table.overrides), table.folds, list(table.seeds), list(table.metrics))
    assert rest == tuple(was[key] for key in ("overrides", "folds", "seeds", "metrics"))


def row_of(old: str) -> set[str]:
    """What one types for a row by its former name; the message of the refusal says it."""
    if old not in PRODUCTS:
        experiment, *overrides = old.split()
        return {f"experiment={experiment}", *overrides}
    with pytest.raises(ValueError, match="is a product now: type ") as refused:
        refuse_former_names(["seed=1", f"experiment=emoji/gap,{old}"])
    return set(str(refused.value).partition(": type ")[2].split())


def test_a_run_that_was_made_by_a_row_as_a_file_is_taken_for_the_run_of_the_product(tmp_path: Path) -> None:
    saved = before("rows", "cub/mlrc/c2_xbm_gsp_zero_shot")
    saved["protocol"]["fold"] = 2
    folder = tmp_path / "c2_xbm_gsp_zero_shot" / "seed0_fold2"
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(saved), folder / "config.yaml")
    (folder / "metrics.json").write_text("{}")
    (table,) = read_tables("mlrc", {"sets": ["cub"], "losses": ["contrastive memory=xbm"]})
    jobs = plan_jobs(table, tmp_path)
    check_jobs(jobs)
    assert [job.folder for job in jobs if job.state == "finished"] == [folder]
