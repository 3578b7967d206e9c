import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.config import TrainConfig
from dml.run_folder import RunFolder
from dml.runs import load_metrics
from dml.train import train
from dml.training import Trainer, load_checkpoint
from dml.training.best_on_test import BestOnTest, load_best_on_test


@pytest.fixture(scope="module")
def run(compose_smoke: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains so badly that its first validation is its best."""
    folder = tmp_path_factory.mktemp("conventional") / "run"
    overrides = [
        "protocol=conventional",
        "protocol.report_best_on_test=true",
        "optimizer.lr=0.3",
        "trainer.eval_every=6",
    ]
    train(compose_smoke(*overrides, "learning_rates.backbone=1"), folder)
    return folder


@pytest.mark.filterwarnings("ignore:.*nearly collapsed")
def test_the_conventional_protocol_reports_the_last_step_however_it_fares(run: Path) -> None:
    best, last = (load_checkpoint(run / "checkpoints" / f"{name}.pt") for name in ("best", "last"))
    assert best["step"] == last["step"] == 6 and last["best"]["step"] == 0


def test_the_best_on_test_stands_under_that_name_alone(run: Path) -> None:
    metrics = load_metrics(run)
    assert list(metrics) == ["train", "test", "best_on_test", "untrained"]
    assert metrics["best_on_test"]["map@r"] > metrics["test"]["map@r"]


def test_without_asking_the_test_classes_are_not_followed(
    compose_smoke: Callable[..., TrainConfig], assemble: Callable[..., Trainer], tmp_path: Path
) -> None:
    assemble(compose_smoke("trainer.max_steps=0"), tmp_path / "checkpoints").fit([])
    assert load_best_on_test(RunFolder(tmp_path)) == {}


def test_the_maximum_outlives_an_interruption(tmp_path: Path) -> None:
    for value in (0.2, 0.5, 0.5, 0.4):  # each in a process of its own
        BestOnTest(RunFolder(tmp_path), select_by="map@r").update({"map@r": value, "recall@1": 1 - value})
    assert load_best_on_test(RunFolder(tmp_path)) == {"best_on_test": {"map@r": 0.5, "recall@1": 0.5}}
    assert json.loads((tmp_path / "best_on_test.json").read_text())
