"""From a run on a split to a final model on all classes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.config import TrainConfig
from dml.reporting import write_report
from dml.reporting.results import find_runs
from dml.reporting.retrieval_grid import retrieval_grid_of_run
from dml.reporting.weight_maps import weight_maps_of_run
from dml.runs import evaluate_run, kept_step, load_metrics
from dml.train import train
from tests.photographs import write_photographs

CHOICES = [
    "dataset=folder",
    "transform.short_side=32",
    "evaluator.recall_at=[1]",
    "sampler.classes_per_batch=3",
    "sampler.images_per_class=2",
    "pooling=gsp",
    "zero_shot.weight=0",
]


@pytest.fixture(scope="module")
def final(compose_smoke: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("final")
    write_photographs(folder / "photographs")
    (folder / "chosen").mkdir()
    (folder / "chosen" / "metrics.json").write_text(json.dumps({"val": {}, "test": {}, "step": 4}))
    data = [f"paths.data={folder}", f"dataset.root={folder}/photographs"]
    cfg = compose_smoke(*CHOICES, *data, "protocol=all", f"protocol.run={folder}/chosen")
    train(cfg, folder / "run")
    return folder / "run"


def test_a_final_model_has_the_length_of_the_run_that_chose_and_no_test(final: Path) -> None:
    metrics = load_metrics(final)
    assert kept_step(final) == 4 and list(metrics) == ["train", "untrained"]
    assert metrics["train"]["queries"] == 24 and not (final / "test_embeddings.npz").exists()
    assert evaluate_run(final).keys() == {"train"}


def test_its_page_says_that_there_are_no_test_classes(final: Path) -> None:
    text = write_report([final]).read_text(encoding="utf-8")
    assert "This run has no test classes" in text and "protocol=all" not in text


def test_it_is_looked_into_by_its_training_images_and_has_no_queries(final: Path) -> None:
    options = {"seed": 0, "checkpoint": "best", "data": None, "device": "cpu"}
    assert weight_maps_of_run(final, [], count=2, **options).total == 24
    with pytest.raises(ValueError, match="trained on all classes, it has no test images"):
        retrieval_grid_of_run(final, count=2, neighbours=2, order="hardest", **options)


def test_a_table_of_test_figures_refuses_it_with_what_to_do(final: Path) -> None:
    with pytest.raises(ValueError, match="no figures of the test classes, as after protocol=all: narrow"):
        find_runs(str(final))
