"""A small set of pictures in folders, and an untrained run on it that looks like a finished one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from dml.assembly import build_data, build_evaluator, build_model
from dml.config import TrainConfig, to_plain
from dml.runs import finish_run
from dml.training import save_checkpoint

TEST_CLASSES = ("costs $5 to $6", "oak", "日本")
IMAGES = 4


def write_photographs(folder: Path) -> None:
    """Four noisy pictures of each of three train and three test classes, alike within a class.

    They stand in items.csv too, where the first of each test class is a query.
    """
    generator = np.random.default_rng(0)
    lines = ["path,label,split,role"]
    for half, names in (("train", ("ash", "elm", "fir")), ("test", TEST_CLASSES)):
        for name in names:
            (folder / half / name).mkdir(parents=True)
            centre = generator.integers(0, 256, (30, 40, 3))
            for i in range(IMAGES):
                pixels = (centre + generator.integers(-60, 60, centre.shape)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / half / name / f"{i}.png")
                role = "" if half == "train" else "gallery" if i else "query"
                lines.append(f"{half}/{name}/{i}.png,{name},{half},{role}")
    (folder / "items.csv").write_text("\n".join(lines), encoding="utf-8")


def write_finished_run(
    folder: Path, compose: Callable[..., TrainConfig], *overrides: str, roles: bool = False
) -> Path:
    """A run on photographs beside it, with its checkpoint and test embeddings; only the training is left out."""
    images = folder / "photographs"
    write_photographs(images)
    data = (
        ["dataset=table", f"dataset.path={images}/items.csv"]
        if roles
        else ["dataset=folder", f"dataset.root={images}"]
    )
    chosen = [*data, "protocol=conventional", "transform.short_side=32", "evaluator.recall_at=[1]"]
    cfg = compose(*chosen, f"paths.data={folder}", *overrides)
    run = folder / "run"
    run.mkdir()
    OmegaConf.save(OmegaConf.create(to_plain(cfg)), run / "config.yaml")
    model, splits = build_model(cfg), build_data(cfg)
    for name in ("best", "last"):
        save_checkpoint(run / "checkpoints" / f"{name}.pt", {"model": model.state_dict()})
    found = build_evaluator(cfg, splits)(model.eval(), splits.test)
    finish_run(run, metrics={"test": found.metrics}, records=splits.test, embeddings=found.embeddings)
    return run
