import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig
from dml.retrieval import retrieval_metrics

Compose = Callable[..., TrainConfig]
LABELS = np.repeat(np.arange(5), 4)


def write_run(folder: Path, cfg: TrainConfig, figure: float | None) -> None:
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(cfg)), folder / "config.yaml")
    if figure is not None:
        metrics = {"recall@1": figure, "map@r": figure / 2}
        (folder / "metrics.json").write_text(json.dumps({"val": metrics, "test": metrics}))


def write_fold(folder: Path, cfg: TrainConfig, seed: int) -> None:
    """A finished run with random test embeddings and their true figures."""
    write_run(folder, cfg, None)
    vectors = np.random.default_rng(seed).normal(size=(20, 6)).astype(np.float32) + np.eye(6)[LABELS]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    np.savez(folder / "test_embeddings.npz", vectors=vectors, labels=LABELS, files=np.arange(20).astype(str))
    metrics = dict(retrieval_metrics(vectors, LABELS, recall_at=[1, 2]))
    (folder / "metrics.json").write_text(json.dumps({"val": metrics, "test": metrics}))


@pytest.fixture(name="write_run")
def write_run_fixture() -> Callable[[Path, TrainConfig, float | None], None]:
    return write_run


@pytest.fixture(scope="session")
def written_runs(tmp_path_factory: pytest.TempPathFactory, compose_smoke: Compose) -> Path:
    """GAP with seeds 0, 1, 2 and GSP with seeds 1, 2, 3; GSP is better by 0.1 and 0.3 on the common seeds."""
    place = tmp_path_factory.mktemp("written") / "runs"
    for pooling, figures in (("gap", {0: 0.5, 1: 0.4, 2: 0.3}), ("gsp", {1: 0.5, 2: 0.6, 3: 0.9})):
        for seed, figure in figures.items():
            overrides = [
                f"pooling={pooling}",
                "zero_shot.weight=0",
                f"seed={seed}",
                f"paths.runs=runs/{seed}",
            ]
            write_run(place / f"{pooling}{seed}", compose_smoke(*overrides), figure)
    return place


@pytest.fixture(scope="session")
def written_folds(tmp_path_factory: pytest.TempPathFactory, compose_smoke: Compose) -> Path:
    """Three folds of two seeds of GAP under the reality check."""
    place = tmp_path_factory.mktemp("written") / "folds"
    for seed in range(2):
        for fold in range(3):
            overrides = [
                f"protocol.fold={fold}",
                f"seed={seed}",
                "protocol.folds=3",
                "evaluator.recall_at=[1,2]",
            ]
            cfg = compose_smoke("pooling=gap", "protocol=mlrc", *overrides)
            write_fold(place / f"seed{seed}" / f"fold{fold}", cfg, 3 * seed + fold)
    return place


@pytest.fixture
def runs(tmp_path: Path, written_runs: Path) -> Path:
    """A copy of those, to be changed."""
    return copytree(written_runs, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def folds(tmp_path: Path, written_folds: Path) -> Path:
    """A copy of those, to be changed."""
    return copytree(written_folds, tmp_path, dirs_exist_ok=True)
