"""Data that lie elsewhere now: what lay below ``paths.data`` moves with it, and one's own images are at the place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.errors import InputError
from dml.moved_data import move_data
from dml.runs import evaluate_run, load_metrics
from tests.photographs import write_finished_run

Compose = Callable[..., TrainConfig]
COMMIT = "dataset.revision=" + "0" * 40


def test_everything_below_the_data_folder_moves_with_it_and_nothing_else_does(
    compose_config: Compose,
) -> None:
    cfg = compose_config("paths.data=.", "backbone=bn_inception", "dataset=cub", "+loss.codes=./a/b")
    resnet = compose_config("paths.data=.", "backbone=resnet50")
    for moved in (cfg, resnet):
        OmegaConf.resolve(moved)
        move_data(moved, "/disk/")
    assert (
        cfg.backbone.weights == "/disk/weights/bn_inception-52deb4733.pth" and cfg.loss.codes == "/disk/a/b"
    )
    assert cfg.dataset.root == "/disk" and cfg.dataset.cache_folder == "/disk/cache"
    assert (
        resnet.backbone.weights == "IMAGENET1K_V1" and resnet.dataset["_target_"] == "dml.data.emoji_dataset"
    )


@pytest.mark.parametrize(
    ("overrides", "key", "expected"),
    [
        (["dataset=folder", "dataset.root=/old/photos"], "root", "NEW"),
        (["dataset=shards", "dataset.root=/old/birds.tar"], "root", "NEW"),
        (["dataset=shards", "dataset.root=[/old/a.tar,/old/b.tar]"], "root", "NEW"),
        (["dataset=table", "dataset.path=/old/items.csv"], "path", "NEW/items.csv"),
        (["dataset=hub", "dataset.name=/old/saved"], "name", "NEW"),
        (["dataset=cub", "dataset.root=/old/birds"], "root", "NEW"),
        (["dataset=folder", "dataset.root=data/photos"], "root", "NEW"),
        (["dataset=folder", "dataset.root=data/below"], "root", "NEW/below"),
        (["dataset=table", "dataset.path=data/items.csv"], "path", "NEW/items.csv"),
        (["dataset=cub"], "root", "NEW"),
        (["dataset=emoji"], "root", "NEW/emoji"),
        (["dataset=hub", "dataset.name=a/b", COMMIT], "name", "a/b"),
    ],
)
def test_each_kind_of_images_is_found_at_the_new_place(
    overrides: list[str], key: str, expected: str, compose_config: Compose, tmp_path: Path
) -> None:
    (tmp_path / "below").mkdir()
    cfg = compose_config("paths.data=data", *overrides)
    OmegaConf.resolve(cfg)
    move_data(cfg, str(tmp_path))
    assert cfg.dataset[key] == expected.replace("NEW", str(tmp_path))
    assert cfg.dataset.get("cache_folder", str(tmp_path / "cache")) == str(tmp_path / "cache")


def test_the_table_itself_may_be_given(compose_config: Compose, tmp_path: Path) -> None:
    cfg = compose_config("dataset=table", "dataset.path=/old/items.csv")
    (tmp_path / "new.csv").touch()
    move_data(cfg, str(tmp_path / "new.csv"))
    assert cfg.dataset.path == str(tmp_path / "new.csv")


@pytest.mark.parametrize("dataset", [{"_target_": "mine.Reader"}, {"_target_": "mine.Reader", "root": None}])
def test_what_would_move_nothing_is_refused(dataset: dict, compose_smoke: Compose) -> None:
    cfg = compose_smoke("paths.data=data", "backbone=tiny")
    cfg.dataset = dataset
    with pytest.raises(InputError, match=r"data=/new would move nothing.*leave it out"):
        move_data(cfg, "/new")


@pytest.fixture(scope="module", params=[False, True], ids=["folder", "table"])
def finished(
    request: pytest.FixtureRequest, compose_smoke: Compose, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return write_finished_run(folder, compose_smoke, "paths.data=elsewhere", roles=request.param)


def test_a_run_is_measured_on_the_images_that_are_given(finished: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(finished.parent / "photographs", same)
    shutil.copytree(same, other)
    assert dict(evaluate_run(finished, data=str(same))["test"]) == load_metrics(finished)["test"]
    for number in "01":
        oak, other_class = (other / "test" / name / f"{number}.png" for name in ("oak", "日本"))
        oak.rename(kept := oak.with_name("kept"))
        other_class.rename(oak)
        kept.rename(other_class)
    assert dict(evaluate_run(finished, data=str(other))["test"]) != load_metrics(finished)["test"]
