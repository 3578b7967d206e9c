import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.config import TrainConfig

Compose = Callable[..., TrainConfig]


def write_run(folder: Path, cfg: TrainConfig, figure: float | None) -> None:
    folder.mkdir()
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(cfg)), folder / "config.yaml")
    if figure is not None:
        metrics = {"recall@1": figure, "map@r": figure / 2}
        (folder / "metrics.json").write_text(json.dumps({"val": metrics, "test": metrics}))


@pytest.fixture(name="write_run")
def write_run_fixture() -> Callable[[Path, TrainConfig, float | None], None]:
    return write_run


@pytest.fixture
def runs(tmp_path: Path, compose_smoke: Compose) -> Path:
    """GAP with seeds 0, 1, 2 and GSP with seeds 1, 2, 3; GSP is better by 0.1 and 0.3 on the common seeds."""
    for pooling, figures in (("gap", {0: 0.5, 1: 0.4, 2: 0.3}), ("gsp", {1: 0.5, 2: 0.6, 3: 0.9})):
        for seed, figure in figures.items():
            overrides = [
                f"pooling={pooling}",
                "zero_shot.weight=0",
                f"seed={seed}",
                f"paths.runs={tmp_path / str(seed)}",
            ]
            write_run(tmp_path / f"{pooling}{seed}", compose_smoke(*overrides), figure)
    return tmp_path
