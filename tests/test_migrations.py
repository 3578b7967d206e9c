"""Files of earlier versions do what they did. Those in old_runs/ were written by the commits that they name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import dml
from dml.config import ConfigError, TrainConfig, config_differences, load_config, to_plain
from dml.errors import CheckpointError
from dml.migrations import CHECKPOINTS, CONFIGS, FORMAT, migrate_config
from dml.runs import load_metrics, open_run
from dml.train import train
from dml.training import Trainer, load_checkpoint, save_checkpoint

OLD = Path(__file__).with_name("old_runs")
LIMIT = ["trainer.initialisation_locations: None -> 65536"]
NOW = {  # what makes such a run today, and what is not the same any more
    "first": (["trainer.max_steps=2"], ["optimizer.fused: None -> True", *LIMIT]),
    "plateau": (
        ["trainer.max_steps=2", "scheduler=plateau", "loss=proxy_nca"],
        [
            "loss._target_: pytorch_metric_learning.losses.ProxyNCALoss -> dml.losses.ProxyNCALoss",
            "loss.softmax_scale: 9.0 -> (absent)",
            "loss.scale: (absent) -> 9.0",
            *LIMIT,
        ],
    ),
    "collage": (
        ["trainer.max_steps=2", "dataset=collage", "optimizer=sgd"],
        ["dataset.size: 64 -> 32", *LIMIT],  # the size did not follow the transform
    ),
    "resting": (  # of format 1: a key that was renamed, a loss that did not say what it takes
        [
            "trainer.max_steps=4",
            "trainer.eval_every=2",
            "trainer.frozen_backbone_steps=2",
            "loss=margin",
            "miner=distance_weighted",
            "memory.batches=2",
            "memory.start_step=1",
        ],
        [],
    ),
    "measured": (  # of format 2: loggers were switches, and the evaluation knew the targets of a collage
        ["trainer.max_steps=2", "dataset=collage", "sampler.classes_per_batch=8"],
        [],
    ),
}

Compose = Callable[..., TrainConfig]


@pytest.mark.parametrize("name", NOW)
def test_an_old_configuration_is_todays_but_for_what_would_change_its_numbers(
    name: str, compose_smoke: Compose
) -> None:
    overrides, changed = NOW[name]
    saved = load_config(OLD / f"{name}.yaml")
    assert saved.format == FORMAT
    assert sorted(config_differences(to_plain(saved), to_plain(compose_smoke(*overrides)))) == sorted(changed)


@pytest.mark.parametrize(
    "name",
    [
        "first",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("plateau", "collage", "resting", "measured")
        ),
    ],
)
def test_an_old_run_that_goes_on_ends_with_the_figures_that_it_had(
    name: str, compose_smoke: Compose, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(OLD / f"{name}.yaml", run / "config.yaml")
    train(compose_smoke(f"resume={run}"), tmp_path / "new", [f"resume={run}"])
    found = {part: figures for part, figures in load_metrics(run).items() if part != "untrained"}
    assert found == json.loads((OLD / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["GeneralizedSum", "GeneralizedSumMax", "GeneralizedSumGeM"])
def test_a_generalized_sum_from_before_its_newer_options_has_their_defaults(name: str) -> None:
    migrated = migrate_config({"pooling": {"_target_": f"dml.pooling.{name}Pooling"}}, "config.yaml")
    assert migrated["pooling"] == {
        "_target_": f"dml.pooling.{name}Pooling",
        "prototype_start": "local",
        "kernel_size": None,
        "effective_share": 0.5,
        "attribute_sharpness": None,
    }


@pytest.mark.parametrize("kind", ["", "Photograph"])
@pytest.mark.parametrize(("part", "role"), [("train", "Training"), ("evaluation", "Evaluation")])
def test_the_transforms_of_photographs_are_now_an_option(kind: str, part: str, role: str) -> None:
    old = {"format": 1, "transform": {part: {"_target_": f"dml.data.{kind}{role}Transform", "size": 8}}}
    assert migrate_config(old, "config.yaml")["transform"][part] == {
        "_target_": f"dml.data.{role}Transform", "size": 8, "whole_pixels": kind == "Photograph"
    }  # fmt: skip


def test_what_an_old_configuration_says_is_left_as_it_is() -> None:
    said = {
        "trainer": {"ema": 0.9},
        "miner": {"_target_": "a.Miner"},
        "optimizer": {"_target_": "torch.optim.Rprop"},
        "transform": {"train": {"_target_": "a.Crop"}, "evaluation": None},
    }
    migrated = migrate_config(said, "config.yaml")
    assert migrated["trainer"]["ema"] == 0.9 and migrated["miner"] == said["miner"]
    assert migrated["optimizer"] == said["optimizer"] and "format" not in said
    assert migrated["transform"]["train"] == {"_target_": "a.Crop"}


@pytest.mark.parametrize(
    ("uses", "takes"),
    [
        ({"miner": {"_target_": None}, "memory": {"batches": 0}}, None),
        ({"miner": {"_target_": "a.Miner"}, "memory": {"batches": 0}}, ["tuples"]),
        ({"miner": {"_target_": "a.Miner"}, "memory": {"batches": 3}}, ["tuples", "references"]),
    ],
)
def test_a_loss_of_a_run_of_format_1_takes_what_was_used_with_it(
    uses: dict[str, dict[str, object]], takes: list[str] | None
) -> None:
    migrated = migrate_config({"format": 1, "loss": {"_target_": "a.Loss"}, **uses}, "config.yaml")
    assert migrated["loss"].get("_takes_") == takes


def test_each_version_before_this_one_has_its_step() -> None:
    assert list(CONFIGS) == list(CHECKPOINTS) == list(range(FORMAT))


def test_a_configuration_of_a_newer_version_is_refused_with_the_version_that_wrote_it(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    newer = {**to_plain(compose_smoke()), "format": FORMAT + 1}
    OmegaConf.save(OmegaConf.create(newer), tmp_path / "config.yaml")
    with pytest.raises(
        ConfigError,
        match=rf"format {FORMAT + 1}, written by a newer dml; this one reads up to format {FORMAT}: update",
    ):
        load_config(tmp_path / "config.yaml")
    (tmp_path / "environment.json").write_text('{"packages": {"dml": "7.1"}}')
    with pytest.raises(ConfigError, match=r"written by dml 7\.1"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("version", ["new", 1.0, -1, None, True])
def test_a_version_that_is_none_is_refused(version: object) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml has format: .*accepted: 0 to 3"):
        migrate_config({"format": version}, "config.yaml")


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    torch.save({"format": FORMAT + 1, "dml": "7.1", "model": {}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last.pt is of format 4, written by dml 7\.1"):
        load_checkpoint(tmp_path / "last.pt")


def test_checkpoint_and_configuration_carry_the_version(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", {"model": {}})
    written = torch.load(tmp_path / "last.pt", weights_only=True)
    assert written["format"] == FORMAT and written["dml"] == dml.__version__


def first_checkpoint(path: Path) -> None:
    """Make a checkpoint one of the first, which had no version, no record and no half precision."""
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if k not in ("format", "dml", "record", "scaler")}, path)


def test_the_first_checkpoints_go_on_but_take_no_changes(
    compose_smoke: Compose, assemble: Callable[[TrainConfig, Path], Trainer], tmp_path: Path
) -> None:
    cfg, run = compose_smoke("trainer.max_steps=1"), tmp_path / "run"
    assemble(cfg, run / "checkpoints").fit([])
    OmegaConf.save(OmegaConf.create(to_plain(cfg)), run / "config.yaml")
    first_checkpoint(run / "checkpoints" / "last.pt")
    again = assemble(cfg, run / "checkpoints")
    again.resume()
    assert again.step == 1
    typed = [f"resume={run}", "optimizer.lr=0.5", "accept_changes=true"]
    with pytest.raises(ConfigError, match=r"(?s)lr: 0.001 -> 0.5\n.*could not take changes"):
        open_run(compose_smoke(*typed), tmp_path / "new", overrides=typed)
