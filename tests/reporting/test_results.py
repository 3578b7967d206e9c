import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.reporting import (
    comparison_rows,
    estimate,
    find_runs,
    group_by_setting,
    markdown_table,
    paired_difference,
)

Compose = Callable[..., TrainConfig]
GAP, GSP = "pooling=GlobalAveragePooling", "pooling=GeneralizedSumPooling"


@pytest.fixture
def runs(tmp_path: Path, compose_smoke: Compose) -> Path:
    """GAP with seeds 0, 1, 2 and GSP with seeds 1, 2, 3; GSP is better by 0.1 and 0.3 on the common seeds."""
    for pooling, figures in (("gap", {0: 0.5, 1: 0.4, 2: 0.3}), ("gsp", {1: 0.5, 2: 0.6, 3: 0.9})):
        for seed, figure in figures.items():
            overrides = [
                f"pooling={pooling}",
                "zero_shot.weight=0",
                f"seed={seed}",
                f"paths.runs={tmp_path / str(seed)}",
            ]
            write_run(tmp_path / f"{pooling}{seed}", compose_smoke(*overrides), figure)
    return tmp_path


def write_run(folder: Path, cfg: TrainConfig, figure: float | None) -> None:
    folder.mkdir()
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(cfg)), folder / "config.yaml")
    if figure is not None:
        metrics = {"recall@1": figure, "map@r": figure / 2}
        (folder / "metrics.json").write_text(json.dumps({"val": metrics, "test": metrics}))


def test_runs_that_differ_in_the_seed_alone_are_one_setting(runs: Path) -> None:
    finished, unfinished = find_runs(f"{runs}/**")
    settings = group_by_setting(finished)
    assert {setting.label: list(setting.runs) for setting in settings} == {GAP: [0, 1, 2], GSP: [1, 2, 3]}
    assert unfinished == []


def test_settings_of_the_same_kind_are_told_apart_by_their_arguments(
    runs: Path, compose_smoke: Compose
) -> None:
    write_run(runs / "sharp", compose_smoke("zero_shot.weight=0", "pooling.sharpness=20", "seed=1"), 0.7)
    labels = {setting.label for setting in group_by_setting(find_runs(f"{runs}/*")[0])}
    assert labels == {GAP, f"{GSP}, pooling.sharpness=5.0", f"{GSP}, pooling.sharpness=20"}


def test_whole_numbers_written_with_and_without_a_point_are_one_setting(
    runs: Path, compose_smoke: Compose
) -> None:
    write_run(runs / "whole", compose_smoke("zero_shot.weight=0", "pooling.sharpness=5", "seed=8"), 0.7)
    assert [setting.label for setting in group_by_setting(find_runs(f"{runs}/*")[0])] == [GAP, GSP]


def test_an_unfinished_run_is_named(runs: Path, compose_smoke: Compose) -> None:
    write_run(runs / "half", compose_smoke("seed=9"), None)
    assert find_runs(f"{runs}/**")[1] == [runs / "half"]


def test_the_paired_difference_uses_the_common_seeds(runs: Path) -> None:
    gap, gsp = group_by_setting(find_runs(f"{runs}/**")[0])
    difference = paired_difference(gsp, gap, "recall@1")
    assert difference is not None and difference.count == 2
    assert difference.mean == pytest.approx(0.2)
    assert difference.half_width == pytest.approx(12.706 * np.std([0.1, 0.3], ddof=1) / np.sqrt(2), rel=1e-3)


def test_the_interval_is_that_of_student() -> None:
    values = [0.61, 0.64, 0.59, 0.66, 0.62]
    expected = 2.776445 * np.std(values, ddof=1) / np.sqrt(5)
    assert estimate(values).half_width == pytest.approx(expected, rel=1e-5)
    assert np.isnan(estimate([0.5]).half_width)


def test_the_table_shows_means_intervals_and_differences(runs: Path) -> None:
    rows = comparison_rows(group_by_setting(find_runs(f"{runs}/**")[0]), ["recall@1"], GAP)
    assert rows[0] == ["setting", "seeds", "recall@1", "Δ recall@1"]
    assert rows[1] == [GAP, "3", "40.00 ± 24.84", ""]
    assert rows[2][3].startswith("+20.00 ± ")
    assert markdown_table(rows).splitlines()[1] == "| --- | ---: | ---: | ---: |"


def test_the_same_setting_and_seed_twice_is_refused(runs: Path, compose_smoke: Compose) -> None:
    write_run(runs / "again", compose_smoke("pooling=gap", "seed=1"), 0.4)
    with pytest.raises(ValueError, match=r"again.*gap1|gap1.*again"):
        group_by_setting(find_runs(f"{runs}/**")[0])


def test_an_empty_folder_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder matches.*runs/\*\*"):
        find_runs(f"{tmp_path}/**")


@pytest.mark.parametrize(
    ("metric", "baseline", "message"), [("recall@3", None, "accepted: recall@1"), ("map@r", "x", "fits 0")]
)
def test_an_unknown_metric_or_baseline_is_refused(
    runs: Path, metric: str, baseline: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        comparison_rows(group_by_setting(find_runs(f"{runs}/**")[0]), [metric], baseline)
