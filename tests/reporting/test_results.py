from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.reporting import find_runs, group_by_setting, missing_folds

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


def test_the_same_setting_and_seed_twice_is_refused(
    runs: Path, compose_smoke: Compose, write_run: WriteRun
) -> None:
    write_run(runs / "again", compose_smoke("pooling=gap", "seed=1"), 0.4)
    with pytest.raises(ValueError, match=r"again.*gap1|gap1.*again"):
        group_by_setting(find_runs(f"{runs}/**")[0])


def test_an_empty_folder_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder matches.*runs/\*\*"):
        find_runs(f"{tmp_path}/**")


def test_runs_that_differ_in_the_fold_alone_are_one_ensemble(folds: Path) -> None:
    (setting,) = group_by_setting(find_runs(f"{folds}/**")[0])
    assert {seed: [run.fold for run in runs] for seed, runs in setting.runs.items()} == {
        0: [0, 1, 2],
        1: [0, 1, 2],
    }


def test_a_seed_that_lacks_a_fold_is_left_out_and_named(folds: Path) -> None:
    (folds / "seed1" / "fold2" / "metrics.json").unlink()
    finished, unfinished = find_runs(f"{folds}/**")
    (setting,) = group_by_setting(finished)
    assert list(setting.runs) == [0] and unfinished == [folds / "seed1" / "fold2"]
    (note,) = missing_folds(finished)
    assert note == f"left out: seed 1 of {folds / 'seed1'}, which lacks fold 2"


def test_another_number_of_folds_is_another_setting(folds: Path, compose_smoke: Compose) -> None:
    for fold in range(3):
        path = folds / "seed1" / f"fold{fold}" / "config.yaml"
        cfg = OmegaConf.load(path)
        cfg.protocol.folds = 4
        OmegaConf.save(cfg, path)
    finished = find_runs(f"{folds}/**")[0]
    assert [list(setting.runs) for setting in group_by_setting(finished)] == [[0]]
    assert "lacks fold 3" in missing_folds(finished)[0]


def test_weights_are_told_apart_by_name_and_not_by_place(
    tmp_path: Path, compose_smoke: Compose, write_run: WriteRun
) -> None:
    for i, weights in enumerate(("IMAGENET1K_V1", "IMAGENET1K_V2", "/a/w.pth", "/b/w.pth")):
        cfg = compose_smoke("backbone=resnet50", f"backbone.weights={weights}", f"seed={i}")
        write_run(tmp_path / str(i), cfg, 0.5)
    seeds = [list(setting.runs) for setting in group_by_setting(find_runs(f"{tmp_path}/*")[0])]
    assert seeds == [[0], [1], [2, 3]]


def test_runs_of_two_data_sets_are_not_put_into_one_table(runs: Path) -> None:
    cfg = OmegaConf.load(runs / "gap0" / "config.yaml")
    cfg.dataset = {"_target_": "dml.data.cub", "root": "elsewhere"}
    OmegaConf.save(cfg, runs / "gap0" / "config.yaml")
    with pytest.raises(ValueError, match=r"different images.*cub in .*gap0; emoji_dataset in .*gap1.*Narrow"):
        group_by_setting(find_runs(f"{runs}/**")[0])


@pytest.mark.parametrize(
    ("content", "message"), [("{", r"metrics\.json cannot be read"), ("{}", "no figures of the test")]
)
def test_a_damaged_metrics_file_is_named(runs: Path, content: str, message: str) -> None:
    (runs / "gap0" / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=rf"gap0.*{message}.*move the folder away"):
        find_runs(f"{runs}/**")


def test_a_foreign_configuration_is_named(runs: Path) -> None:
    (runs / "other").mkdir()
    (runs / "other" / "config.yaml").write_text("learning_rate: 3\n")
    (runs / "other" / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other/config\.yaml does not fit the schema"):
        find_runs(f"{runs}/**")


def test_a_metric_that_the_runs_do_not_have_is_refused_with_those_they_have(runs: Path) -> None:
    setting = group_by_setting(find_runs(f"{runs}/**")[0])[0]
    assert setting.values("recall@1") == {0: 0.5, 1: 0.4, 2: 0.3}
    with pytest.raises(ValueError, match=r"recall@3.*accepted: recall@1, map@r"):
        setting.values("recall@3")


def test_runs_come_in_the_order_in_which_they_are_named(runs: Path) -> None:
    finished, _ = find_runs(str(runs / "gsp1"), f"{runs}/gap*", str(runs / "gsp1"))
    assert [run.folder.name for run in finished] == ["gsp1", "gap0", "gap1", "gap2"]
