"""The chain from images to figures, on the command line's own code."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import dml
from dml.assembly import build_data, build_evaluator, build_model, build_objective, build_trainer
from dml.config import TrainConfig
from dml.retrieval import retrieval_metrics
from dml.runs import evaluate_run, load_metrics
from dml.training import NonFiniteLossError
from train import train

ROOT = Path(__file__).parent.parent
Compose = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def smoke_run(compose_smoke: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    train(compose_smoke(), folder)
    return folder


def figures(folder: Path) -> bytes:
    return (folder / "metrics.json").read_bytes() + (folder / "history.csv").read_bytes()


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
    assert (smoke_run / "checkpoints" / "last.pt").exists() and list((smoke_run / "tensorboard").iterdir())
    assert (
        "???" not in (smoke_run / "config.yaml").read_text()
        and "${" not in (smoke_run / "config.yaml").read_text()
    )


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
    assert dict(metrics) == load_metrics(smoke_run)["test"]


def test_a_loaded_run_gives_its_figures_again_to_the_last_digit(smoke_run: Path) -> None:
    metrics = evaluate_run(smoke_run)
    assert {split: dict(values) for split, values in metrics.items()} == load_metrics(smoke_run)


def test_a_loaded_model_embeds_pictures_with_its_own_preprocessing(smoke_run: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    vectors = dml.load_model(smoke_run).embed([picture, picture.convert("L"), picture])
    assert vectors.shape == (3, 128) and not vectors[0].allclose(vectors[1], atol=1e-3)
    torch.testing.assert_close(vectors[0], vectors[2])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_the_same_seed_gives_the_same_figures_with_two_workers_as_with_none(
    smoke_run: Path, compose_smoke: Compose, tmp_path: Path
) -> None:
    train(compose_smoke("num_workers=2"), tmp_path / "run")
    assert figures(tmp_path / "run") == figures(smoke_run)


def test_another_seed_gives_other_figures(smoke_run: Path, compose_smoke: Compose, tmp_path: Path) -> None:
    train(compose_smoke("seed=1"), tmp_path / "run")
    assert figures(tmp_path / "run") != figures(smoke_run)


def test_no_steps_evaluate_the_untrained_model_and_write_the_folder_all_the_same(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    train(compose_smoke("trainer.max_steps=0"), tmp_path / "run")
    assert load_metrics(tmp_path / "run")["test"]["queries"] > 4000
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()


def test_a_second_run_never_overwrites_the_first(smoke_run: Path, compose_smoke: Compose) -> None:
    before = figures(smoke_run)
    with pytest.raises(FileExistsError, match=r"holds a run already.*hydra.run.dir.*resume="):
        train(compose_smoke(), smoke_run)
    assert figures(smoke_run) == before


def test_a_finished_run_is_not_resumed(smoke_run: Path, compose_smoke: Compose, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="nothing to resume"):
        train(compose_smoke(f"resume={smoke_run}"), tmp_path)


def test_ctrl_c_saves_and_the_resumed_run_ends_as_if_nothing_had_happened(
    smoke_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "train.py", "debug=smoke", f"hydra.run.dir={folder}", "trainer.eval_every=2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while not (folder / "checkpoints" / "last.pt").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and f"resume={folder}" in message, message
    resumed = subprocess.run(
        [sys.executable, "train.py", f"resume={folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert load_metrics(folder)["test"] == load_metrics(smoke_run)["test"]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    cfg = compose_smoke("optimizer.lr=1e30", "scheduler=constant", "trainer.gradient_clip=null")
    with pytest.raises(
        NonFiniteLossError, match=r"at step \d+ the (metric|zero_shot) loss is (nan|inf).*optimizer.lr"
    ):
        train(cfg, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize(
    ("loss", "moving"),
    [
        ("contrastive", "prototypes class_codes backbone head"),
        ("proxy_anchor", "proxies prototypes class_codes"),
    ],
)
def test_every_kind_of_parameter_moves_at_its_own_rate(
    loss: str, moving: str, compose_smoke: Compose, tmp_path: Path
) -> None:
    cfg = compose_smoke(f"loss={loss}", "learning_rates.prototypes=3", "learning_rates.class_codes=0")
    trainer = assemble(cfg, tmp_path)
    rates = {group["name"]: group["lr"] / 25 for group in trainer.optimizer.param_groups}
    before = snapshot(trainer)
    trainer.fit([])
    after = snapshot(trainer)
    for role in moving.split():
        unmoved = [a.equal(b) for a, b in zip(before[role], after[role], strict=True)]
        assert all(unmoved) if role == "class_codes" else not any(unmoved), role
    del rates


def snapshot(trainer) -> dict[str, list[torch.Tensor]]:  # type: ignore[no-untyped-def]
    return {g["name"]: [p.detach().clone() for p in g["params"]] for g in trainer.optimizer.param_groups}


def assemble(cfg: TrainConfig, folder: Path):  # type: ignore[no-untyped-def]
    data = build_data(cfg)
    objective = build_objective(cfg, data.train.num_classes)
    return build_trainer(cfg, build_model(cfg), objective, data, build_evaluator(cfg, data), folder)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler.classes_per_batch=5000", "between 1 and"),
        ("evaluator.recall_at=[1,100000]", "recall_at has 100000"),
        ("protocol.fraction=0.001", "validation set would have"),
        ("paths.data=/nowhere", "/nowhere/emoji.*missing"),
        ("sampler.classes_per_batch=many", "accepted: int"),
        ("pooling.sharpness=-1", "sharpness"),
        ("zero_shot.weight=2", "zero_shot.weight=2"),
        ("embedding_dim=0", "embedding_dim=0"),
        ("trainer.eval_every=0", "trainer.eval_every=0"),
        ("trainer.select_by=accuracy", "accepted: recall@1"),
        ("trainer.device=tpu9", "accepted: auto, cpu"),
        ("transform.evaluation.resize=8", "at least as large"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    override: str, message: str, compose_smoke: Compose, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        train(compose_smoke(override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pooling=gpa"], "Available options in 'pooling':"),
        (["pooling.sharpnes=3"], "sharpnes"),
        (["sede=7"], "sede"),
        (["+pooling.sharpnes=3"], "did you mean sharpness?"),
        (["seed=abc"], "abc"),
        (["sampler.images_per_class=0"], "error: sampler.images_per_class=0"),
    ],
)
def test_a_typing_error_ends_with_a_sentence_and_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "train.py", "debug=smoke", f"hydra.run.dir={tmp_path / 'run'}", *arguments]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert result.returncode != 0 and message in result.stderr
    assert "Traceback" not in result.stderr
