"""The run folder, as a run leaves it and as people read it back."""

import csv
import json
import math
import os
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
from dml.config import TrainConfig, load_config
from dml.data import Records
from dml.retrieval import Embeddings, retrieval_metrics
from dml.runs import evaluate_run, finish_run, load_metrics, open_run, start_run
from tests.holding import other_process_holds
from train import train

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
    assert list(metrics) == ["val", "test"] and all(list(values) == names for values in metrics.values())
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
    assert {split: dict(values) for split, values in metrics.items()} == load_metrics(smoke_run)


def test_a_loaded_model_embeds_pictures_with_its_own_preprocessing(smoke_run: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    vectors = dml.load_model(smoke_run).embed([picture, picture.convert("L"), picture])
    assert vectors.shape == (3, 128) and not vectors[0].allclose(vectors[1], atol=1e-3)
    torch.testing.assert_close(vectors[0], vectors[2])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


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
    cfg, folder, resumed = open_run(compose_smoke(), tmp_path / "run")
    start_run(cfg, folder)
    with pytest.raises(FileExistsError, match="holds a run already"):
        start_run(compose_smoke("seed=5"), folder)
    assert load_config(folder / "config.yaml").seed == 0 and not resumed


@pytest.fixture
def begun(smoke_run: Path, tmp_path: Path) -> Path:
    """A run that was killed before its end."""
    folder = tmp_path / "runs" / "begun"
    shutil.copytree(smoke_run, folder, ignore=shutil.ignore_patterns("metrics.json", "tensorboard", ".lock"))
    return folder


def resume(compose: Compose, folder: Path, *overrides: str) -> TrainConfig:
    typed = [f"resume={folder}", *overrides]
    return open_run(compose(*typed), folder.parent / "new", overrides=typed).cfg


def test_resuming_goes_on_with_the_saved_configuration_in_its_folder(
    begun: Path, compose_smoke: Compose
) -> None:
    cfg, folder, resumed = open_run(compose_smoke(f"resume={begun}", "seed=4"), begun.parent / "new")
    assert cfg.seed == 0 and cfg.resume is None and folder == begun and resumed


def test_how_a_run_is_executed_may_change_on_resume(begun: Path, compose_smoke: Compose) -> None:
    cfg = resume(compose_smoke, begun, "num_workers=2", "trainer.micro_batch=8")
    assert cfg.num_workers == 2 and cfg.trainer.micro_batch == 8


def test_what_changes_the_numbers_is_shown_and_refused_and_nothing_is_touched(
    begun: Path, compose_smoke: Compose
) -> None:
    before = (begun / "config.yaml").read_bytes()
    message = r"(?s)up to step 6.*\n  seed: 0 -> 77\n  optimizer.lr: 0.001 -> 0.1\n.*accept_changes=true"
    with pytest.raises(ValueError, match=message):
        resume(compose_smoke, begun, "seed=77", "optimizer.lr=0.1")
    assert (begun / "config.yaml").read_bytes() == before


def test_a_run_from_before_there_were_miners_goes_on_without_one(begun: Path, compose_smoke: Compose) -> None:
    path, checkpoint = begun / "config.yaml", begun / "checkpoints" / "last.pt"
    saved, state = OmegaConf.load(path), torch.load(checkpoint, weights_only=True)
    del saved["miner"], state["record"]["config"]["miner"]
    path.write_text(OmegaConf.to_yaml(saved))
    torch.save(state, checkpoint)
    assert resume(compose_smoke, begun).miner == {"_target_": None}
    assert load_config(path).miner == {"_target_": None}


def test_what_changes_the_numbers_is_taken_if_asked_for_and_the_old_configuration_is_kept(
    begun: Path, compose_smoke: Compose
) -> None:
    cfg = resume(compose_smoke, begun, "optimizer.lr=0.1", "accept_changes=true")
    assert cfg.optimizer.lr == load_config(begun / "config.yaml").optimizer.lr == 0.1
    assert load_config(begun / "config.until_step_6.yaml").optimizer.lr == 0.001


def test_an_edited_configuration_is_held_against_that_of_the_checkpoint(
    begun: Path, compose_smoke: Compose
) -> None:
    path = begun / "config.yaml"
    path.write_text(path.read_text().replace("embedding_dim: 128", "embedding_dim: 64"))
    with pytest.raises(ValueError, match="embedding_dim: 128 -> 64"):
        resume(compose_smoke, begun)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pooling=gap", r"pooling=gap: a run keeps its parts"),
        ("+trainer.speed=3", "a run keeps its parts"),
        ("trainer.sped=3", r"trainer.sped=3: Key 'sped'"),
        ("seed=abc", "seed=abc: Value 'abc'"),
    ],
)
def test_overrides_that_do_not_fit_a_saved_run_are_refused(
    override: str, message: str, begun: Path, compose_smoke: Compose
) -> None:
    typed = [f"resume={begun}", override]
    with pytest.raises(ValueError, match=message):
        open_run(compose_smoke(f"resume={begun}"), begun.parent / "new", overrides=typed)


def test_auto_goes_on_with_the_newest_unfinished_run_of_the_same_configuration(
    begun: Path, compose_smoke: Compose
) -> None:
    runs = begun.parent
    shutil.copytree(begun, runs / "older")
    os.utime(runs / "older" / "config.yaml", (1, 1))
    same = compose_smoke("resume=auto", f"paths.runs={runs}", "num_workers=2")
    assert open_run(same, runs / "new")[1:] == (begun, True)
    other = compose_smoke("resume=auto", f"paths.runs={runs}", "seed=3")
    assert open_run(other, runs / "new")[1:] == (runs / "new", False)


def test_auto_holds_the_run_in_the_folder_that_was_named_against_what_was_typed(
    begun: Path, compose_smoke: Compose
) -> None:
    assert open_run(compose_smoke("resume=auto"), begun)[1:] == (begun, True)
    with pytest.raises(ValueError, match="seed: 0 -> 3"):
        open_run(compose_smoke("resume=auto", "seed=3"), begun)


def test_a_run_that_is_under_way_is_left_alone(begun: Path, compose_smoke: Compose) -> None:
    with other_process_holds(begun):
        with pytest.raises(FileExistsError, match="under way in another process"):
            resume(compose_smoke, begun)
        auto = compose_smoke("resume=auto", f"paths.runs={begun.parent}")
        assert not open_run(auto, begun.parent / "new").resumed
    assert resume(compose_smoke, begun).seed == 0


def test_auto_passes_over_runs_that_cannot_be_written_to(
    begun: Path, compose_smoke: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("dml.runs.lock_folder", refuse)
    auto = compose_smoke("resume=auto", f"paths.runs={begun.parent}")
    assert not open_run(auto, begun.parent / "new").resumed


def test_a_finished_run_is_not_resumed(smoke_run: Path, compose_smoke: Compose, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="nothing to resume"):
        train(compose_smoke(f"resume={smoke_run}"), tmp_path)


def test_the_data_may_have_moved_since(smoke_run: Path, tmp_path: Path) -> None:
    (tmp_path / "emoji").symlink_to(Path("data/emoji").resolve())
    assert dict(evaluate_run(smoke_run, data=str(tmp_path))["test"]) == load_metrics(smoke_run)["test"]


def test_moving_the_data_of_the_current_folder_leaves_the_name_of_the_reader_alone(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(compose_smoke("paths.data=."), resolve=True))
    with pytest.raises(FileNotFoundError, match="moved/emoji"):
        evaluate_run(tmp_path, data=str(tmp_path / "moved"))


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not finished.*resume="):
        load_metrics(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no configuration at"):
        dml.load_model(tmp_path)
