"""The run folder, as a run leaves it and as people read it back."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dml
from dml.config import EXECUTION, TrainConfig, load_config
from dml.data import Records
from dml.errors import FileError, OccupiedError
from dml.retrieval import Embeddings, retrieval_metrics
from dml.runs import evaluate_run, finish_run, kept_step, load_metrics, open_run, start_run
from dml.train import train

Compose = Callable[..., TrainConfig]


def test_a_run_folder_holds_all_that_it_promises(smoke_run: Path) -> None:
    metrics = load_metrics(smoke_run)
    names = [
        "recall@1",
        "recall@2",
        "recall@4",
        "recall@8",
        "r_precision",
        "map@r",
        "queries",
        "gallery",
        "left_out",
    ]
    assert list(metrics) == ["val", "test", "untrained"] and all(
        list(values) == names for values in metrics.values()
    )
    environment = json.loads((smoke_run / "environment.json").read_text())
    assert environment["seed"] == 0 and environment["packages"]["torch"] and "git_revision" in environment
    record = torch.load(smoke_run / "checkpoints" / "last.pt", weights_only=True)["record"]
    assert record["environment"] == environment and record["config"]["seed"] == 0
    assert (smoke_run / "checkpoints" / "last.pt").exists() and list((smoke_run / "tensorboard").iterdir())
    assert (
        "???" not in (smoke_run / "config.yaml").read_text()
        and "${" not in (smoke_run / "config.yaml").read_text()
    )


def test_what_the_pooling_looks_at_is_shown_of_the_validation_classes(smoke_run: Path) -> None:
    events = EventAccumulator(str(smoke_run / "tensorboard")).Reload()
    assert [event.step for event in events.Images("attention")] == [0, 3, 6]


def test_history_starts_untrained_and_ends_with_the_last_step(smoke_run: Path) -> None:
    with (smoke_run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "3", "6"]
    for column in (
        "loss/metric",
        "loss/zero_shot",
        "learning_rate/prototypes",
        "gradient_norm",
        "weights/spread",
    ):
        assert math.isfinite(float(rows[-1][column]))


def test_the_stored_test_embeddings_give_the_stored_figures(smoke_run: Path) -> None:
    with np.load(smoke_run / "test_embeddings.npz") as stored:
        metrics = retrieval_metrics(torch.from_numpy(stored["vectors"]), torch.from_numpy(stored["labels"]))
        assert len(stored["files"]) == len(stored["labels"]) == len(stored["vectors"])
        assert stored["is_query"].all() and stored["is_gallery"].all()
    assert dict(metrics) == load_metrics(smoke_run)["test"]


def test_queries_and_gallery_are_stored_with_the_test_embeddings(tmp_path: Path) -> None:
    is_query, labels = np.array([True, False, False]), np.array([0, 0, 0])
    images = np.zeros((3, 2, 2, 3), dtype=np.uint8)
    records = Records(images, np.arange(3), labels, ("a",), ("0", "1", "2"), is_query)
    embeddings = Embeddings(torch.eye(3), torch.from_numpy(labels))
    finish_run(tmp_path, metrics={"test": {}}, records=records, embeddings=embeddings)
    with np.load(tmp_path / "test_embeddings.npz") as stored:
        assert stored["is_query"].tolist() == [True, False, False]
        assert stored["is_gallery"].tolist() == [False, True, True]


def test_a_loaded_run_gives_its_figures_again_to_the_last_digit(smoke_run: Path) -> None:
    metrics = evaluate_run(smoke_run)
    stored = load_metrics(smoke_run)
    del stored["untrained"]
    assert {split: dict(values) for split, values in metrics.items()} == stored


def test_the_figures_say_which_step_was_kept_and_what_the_untrained_model_had(smoke_run: Path) -> None:
    with (smoke_run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row["val/map@r"]))
    untrained = load_metrics(smoke_run)["untrained"]
    assert kept_step(smoke_run) == int(best["step"])
    assert untrained == {name: float(rows[0][f"val/{name}"]) for name in load_metrics(smoke_run)["val"]}
    assert isinstance(untrained["queries"], int)


def test_figures_of_an_earlier_version_are_read_without_a_step(smoke_run: Path, tmp_path: Path) -> None:
    content = json.loads((smoke_run / "metrics.json").read_text())
    earlier = {split: content[split] for split in ("val", "test")}
    (tmp_path / "metrics.json").write_text(json.dumps(earlier))
    assert load_metrics(tmp_path) == earlier and kept_step(tmp_path) is None


def test_a_loaded_model_embeds_pictures_with_its_own_preprocessing(smoke_run: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    vectors = dml.load_model(smoke_run).embed([picture, picture.convert("L"), picture])
    assert vectors.shape == (3, 128) and not vectors[0].allclose(vectors[1], atol=1e-3)
    torch.testing.assert_close(vectors[0], vectors[2])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_what_is_called_execution_changes_no_digit(
    smoke_run: Path, compose_smoke: Compose, tmp_path: Path
) -> None:
    changed = [
        "evaluator.backend=torch",
        "evaluator.batch_size=99",
        "logger.tensorboard=false",
        "trainer.log_every=4",
    ]
    assert all(any(key.startswith(e) for e in EXECUTION) for key in changed)
    train(compose_smoke(*changed), tmp_path / "run")
    for file in ("metrics.json", "history.csv", "steps.csv"):
        assert (tmp_path / "run" / file).read_bytes() == (smoke_run / file).read_bytes()


def test_a_second_run_never_overwrites_the_first(smoke_run: Path, compose_smoke: Compose) -> None:
    before = (smoke_run / "metrics.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"holds a run already.*hydra.run.dir.*resume="):
        train(compose_smoke(), smoke_run)
    assert (smoke_run / "metrics.json").read_bytes() == before


def test_a_folder_with_checkpoints_of_another_run_is_refused(
    smoke_run: Path, compose_smoke: Compose, tmp_path: Path
) -> None:
    shutil.copytree(smoke_run / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(FileExistsError, match="holds a run already"):
        train(compose_smoke("seed=9"), tmp_path / "run")


def test_of_two_runs_that_start_in_one_folder_at_once_one_is_refused(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    first, second = (open_run(compose_smoke(f"seed={seed}"), tmp_path / "run") for seed in (0, 5))
    start_run(first)
    with pytest.raises(OccupiedError, match="holds a run already"):
        start_run(second)
    assert load_config(first.folder.config).seed == 0 and not first.resumed


def test_the_data_may_have_moved_since(smoke_run: Path, tmp_path: Path) -> None:
    (tmp_path / "emoji").symlink_to(Path("data/emoji").resolve())
    assert dict(evaluate_run(smoke_run, data=str(tmp_path))["test"]) == load_metrics(smoke_run)["test"]


def test_moving_the_data_of_the_current_folder_leaves_the_name_of_the_reader_alone(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(compose_smoke("paths.data=."), resolve=True))
    with pytest.raises(FileNotFoundError, match="moved/emoji"):
        evaluate_run(tmp_path, data=str(tmp_path / "moved"))


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(FileError, match=r"writing the configuration of .*run: File exists \(.*run\)"):
        start_run(open_run(compose_smoke(), tmp_path / "run"))


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not finished.*resume="):
        load_metrics(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no configuration at"):
        dml.load_model(tmp_path)
