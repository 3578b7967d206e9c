from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.reporting import compare, find_runs, group_by_setting, single_baseline

GAP, GSP = "pooling=GlobalAveragePooling", "pooling=GeneralizedSumPooling"


def test_the_baseline_has_no_difference_and_others_have_it_over_common_seeds(runs: Path) -> None:
    (table,) = compare(group_by_setting(find_runs(f"{runs}/**")[0]), ["recall@1"], {GSP: GAP})
    gap, gsp = table.rows
    assert (table.reading, table.baselines, gap.seeds) == ("test", {GSP: GAP}, 3)
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


def test_validation_classes_are_read_only_where_they_are_asked_for(
    tmp_path: Path, compose_smoke: Callable[..., TrainConfig]
) -> None:
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(compose_smoke())), tmp_path / "config.yaml")
    (tmp_path / "metrics.json").write_text('{"val": {"map@r": 0.4}, "test": {"map@r": 0.2}}')
    settings = group_by_setting(find_runs(str(tmp_path))[0])
    readings = [compare(settings, ["map@r"], reading=reading) for reading in (None, "val")]
    assert [[(t.reading, t.rows[0].figures["map@r"].ours.mean) for t in tables] for tables in readings] == [
        [("test", 0.2)],
        [("val", 0.4)],
    ]
    with pytest.raises(ValueError, match=r"reading=train, which the runs do not have; accepted: test, val"):
        compare(settings, ["map@r"], reading="train")


def test_a_single_baseline_is_for_all_others(runs: Path) -> None:
    settings = group_by_setting(find_runs(f"{runs}/**")[0])
    assert single_baseline(settings, "Average") == single_baseline(settings, GAP) == {GSP: GAP}


@pytest.mark.parametrize(("text", "count"), [("x", 0), ("pooling", 2)])
def test_a_baseline_that_is_not_one_setting_is_refused_with_the_settings(
    text: str, count: int, runs: Path
) -> None:
    with pytest.raises(ValueError, match=rf"fits {count} settings, it must fit one of: {GAP}; {GSP}"):
        single_baseline(group_by_setting(find_runs(f"{runs}/**")[0]), text)


def test_a_row_whose_baseline_has_no_runs_has_no_difference(runs: Path) -> None:
    (table,) = compare(group_by_setting(find_runs(f"{runs}/**")[0]), ["map@r"], {GSP: "not trained yet"})
    assert table.baselines == {} and table.rows[1].figures["map@r"].difference is None
