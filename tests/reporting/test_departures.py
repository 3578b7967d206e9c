from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from dml.reporting import departures, print_departures

ROOT = Path(__file__).parents[2]


def departures_of(*overrides: str) -> list[str]:
    """What train.py would say on start."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    choices = dict(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return departures(cfg, choices, overrides)  # type: ignore[arg-type]


def test_nothing_is_said_of_a_row_that_was_published_and_of_what_was_not_asked_to_be() -> None:
    row = ["published=mlrc", "dataset=cub", "loss=contrastive", "memory=xbm", "pooling=gsp"]
    assert departures_of(*row, "seed=3", "protocol.fold=1", "num_workers=8", "trainer.device=cpu") == []
    assert departures_of("dataset=cub", "loss=circle", "optimizer.lr=0.1") == []


def test_another_data_set_has_every_value_that_goes_by_data_sets_from_this_project() -> None:
    (line,) = departures_of("published=conventional_resnet50", "loss=contrastive", "pooling=gap_max")
    assert line.startswith(
        "dataset=emoji was not: loss.pos_margin=0.0, loss.neg_margin=0.5, optimizer.lr=1e-05,"
    )
    assert "trainer.frozen_backbone_steps=0" in line and "evaluator.recall_at=[1, 2, 4, 8]" in line


def test_another_loss_has_its_own_values_and_those_of_its_kind_from_this_project() -> None:
    row = ["published=conventional_resnet50", "dataset=cub", "pooling=gsp_gem"]
    (line,) = departures_of(*row, "loss=arcface")
    assert (
        "loss=arcface was not: loss.margin=28.6, loss.scale=64.0; by its kind also sampler=uniform_112,"
        in line
    )
    assert line.endswith("pooling.sharpness=0.5, trainer.frozen_backbone_steps=52")
    _, memory = departures_of(*row, "loss=circle", "memory=xbm")
    assert memory.startswith("memory=xbm was not with loss=circle: memory.batches=25, memory.start_step=100")


def test_another_pooling_and_what_is_typed_are_named() -> None:
    row = ["published=conventional_bn_inception", "dataset=cub", "loss=triplet"]
    lines = departures_of(*row, "pooling=gsp", "optimizer.lr=0.1", "sampler=uniform")
    assert lines[0].startswith("pooling=gsp was not with dataset=cub, but gap_max or gsp_max: pooling.num")
    assert lines[1] == "typed: optimizer.lr=0.1 sampler=uniform"


def test_they_are_printed_under_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    choices = {"published": "mlrc", "dataset": "cub", "loss": "c1", "memory": "none", "pooling": "gap"}
    print_departures(None, choices, ["optimizer.lr=0.1"])  # type: ignore[arg-type]
    expected = "published=mlrc, but not all of it as published:\n  typed: optimizer.lr=0.1\n"
    assert capsys.readouterr().out == expected
    print_departures(None, choices, [])  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""
