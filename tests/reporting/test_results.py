from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dml.config import TrainConfig
from dml.reporting import estimate, find_runs, group_by_setting, paired_difference

Compose = Callable[..., TrainConfig]
WriteRun = Callable[[Path, TrainConfig, float | None], None]
GAP, GSP = "pooling=GlobalAveragePooling", "pooling=GeneralizedSumPooling"


def test_runs_that_differ_in_the_seed_alone_are_one_setting(runs: Path) -> None:
    finished, unfinished = find_runs(f"{runs}/**")
    settings = group_by_setting(finished)
    assert {setting.label: list(setting.runs) for setting in settings} == {GAP: [0, 1, 2], GSP: [1, 2, 3]}
    assert unfinished == []


def test_settings_of_the_same_kind_are_told_apart_by_their_arguments(
    runs: Path, compose_smoke: Compose, write_run: WriteRun
) -> None:
    write_run(runs / "sharp", compose_smoke("zero_shot.weight=0", "pooling.sharpness=20", "seed=1"), 0.7)
    labels = {setting.label for setting in group_by_setting(find_runs(f"{runs}/*")[0])}
    assert labels == {GAP, f"{GSP}, pooling.sharpness=5.0", f"{GSP}, pooling.sharpness=20"}


def test_whole_numbers_written_with_and_without_a_point_are_one_setting(
    runs: Path, compose_smoke: Compose, write_run: WriteRun
) -> None:
    write_run(runs / "whole", compose_smoke("zero_shot.weight=0", "pooling.sharpness=5", "seed=8"), 0.7)
    assert [setting.label for setting in group_by_setting(find_runs(f"{runs}/*")[0])] == [GAP, GSP]


def test_an_unfinished_run_is_named(runs: Path, compose_smoke: Compose, write_run: WriteRun) -> None:
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


def test_the_same_setting_and_seed_twice_is_refused(
    runs: Path, compose_smoke: Compose, write_run: WriteRun
) -> None:
    write_run(runs / "again", compose_smoke("pooling=gap", "seed=1"), 0.4)
    with pytest.raises(ValueError, match=r"again.*gap1|gap1.*again"):
        group_by_setting(find_runs(f"{runs}/**")[0])


def test_an_empty_folder_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder matches.*runs/\*\*"):
        find_runs(f"{tmp_path}/**")
