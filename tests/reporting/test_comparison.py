from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.reporting import compare, find_runs, group_by_setting

GAP, GSP = "pooling=GlobalAveragePooling", "pooling=GeneralizedSumPooling"


def test_the_baseline_has_no_difference_and_others_have_it_over_common_seeds(runs: Path) -> None:
    (table,) = compare(group_by_setting(find_runs(f"{runs}/**")[0]), ["recall@1"], GAP)
    gap, gsp = table.rows
    assert (table.reading, table.baseline, gap.seeds) == ("test", GAP, 3)
    assert gap.figures["recall@1"].difference is None
    difference = gsp.figures["recall@1"].difference
    assert difference is not None and difference.count == 2 and difference.mean == pytest.approx(0.2)


def test_folds_are_read_in_two_ways(folds: Path) -> None:
    tables = compare(group_by_setting(find_runs(f"{folds}/**")[0]), ["recall@1", "map@r"])
    assert [table.reading for table in tables] == ["separated", "concatenated"]
    separated, concatenated = (table.rows[0].figures["map@r"].ours for table in tables)
    assert separated.count == concatenated.count == 2 and separated.mean < concatenated.mean


def test_a_run_that_followed_the_test_classes_is_read_under_that_name_too(
    tmp_path: Path, compose_smoke: Callable[..., TrainConfig]
) -> None:
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(compose_smoke())), tmp_path / "config.yaml")
    (tmp_path / "metrics.json").write_text('{"test": {"map@r": 0.2}, "best_on_test": {"map@r": 0.3}}')
    tables = compare(group_by_setting(find_runs(str(tmp_path))[0]), ["map@r"])
    assert {table.reading: table.rows[0].figures["map@r"].ours.mean for table in tables} == {
        "test": 0.2,
        "best on test": 0.3,
    }


@pytest.mark.parametrize(
    ("metric", "baseline", "message"),
    [("recall@3", None, "accepted: recall@1"), ("map@r", "x", "fits 0"), ("map@r", "pooling", "fits 2")],
)
def test_an_unknown_metric_or_baseline_is_refused(
    runs: Path, metric: str, baseline: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(group_by_setting(find_runs(f"{runs}/**")[0]), [metric], baseline)
