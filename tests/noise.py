"""Images of noise and a trainer on them, for what needs no real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from dml.assembly import build_evaluator, build_model, build_objective, build_trainer
from dml.backbones import ConvNet
from dml.config import TrainConfig, settle
from dml.data import Records, Splits
from dml.run_folder import RunFolder
from dml.training import Logger, Trainer


class TinyWithDropout(ConvNet):
    """A backbone whose gradient depends on what dropout drew."""

    def __init__(self, *, widths: list[int]) -> None:
        super().__init__(widths=widths)
        self.layers.append(nn.Dropout2d(0.3))


class Recorder(Logger):
    """A logger that keeps the loss and gradient norm of each step, and the figures of each validation."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []
        self.figures: list[float] = []

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        self.steps.append((loss, gradient_norm))

    def validation(self, step: int, metrics: dict[str, float], model: nn.Module) -> None:
        self.figures.append(metrics["map@r"])


def noise(classes: int, images: int) -> Records:
    count = classes * images
    pixels = np.random.default_rng(classes).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(classes), images)
    names = tuple(f"{classes}-{i}" for i in range(classes))
    return Records(pixels, np.arange(count), labels, names, tuple(f"{i}.png" for i in range(count)))


def noise_splits() -> Splits:
    return Splits(noise(12, 5), noise(6, 4), noise(7, 4))


class Checkpoints(RunFolder):
    """A run folder whose checkpoints lie in it, without a folder of their own."""

    @property
    def checkpoints(self) -> Path:
        return self.path


def assemble(cfg: TrainConfig, folder: Path) -> Trainer:
    data = noise_splits()
    cfg = settle(cfg, num_classes=data.train.num_classes)
    objective = build_objective(cfg, data.train)
    return build_trainer(
        cfg, build_model(cfg), objective, data, build_evaluator(cfg, data), Checkpoints(folder)
    )
