"""What a logger promises."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from dml.assembly import build_part, check_loggers, named_parts
from dml.checks.attempt import Attempt
from dml.config import ConfigError, TrainConfig, to_plain
from dml.contracts import FollowedRun, Logger
from dml.model import EmbeddingModel
from dml.pooling import GlobalAveragePooling
from dml.types import Normalisation

__all__ = ["attempts"]

METRICS = {"recall@1": 0.5, "map@r": 0.25, "queries": 10}


def attempts(cfg: TrainConfig) -> Iterator[Attempt]:
    with tempfile.TemporaryDirectory(prefix="dml_check_") as folder:
        tests = _Tests(cfg, Path(folder) / "run")
        yield Attempt("is a logger: with step, training, validation and close", tests.is_one, vital=True)
        yield Attempt("follows a run of three steps", lambda: tests.follow(0, (0, 1, 2, 3)))
        yield Attempt("follows the run when it goes on from step 2", lambda: tests.follow(2, (3, 4)))


class _Plain(nn.Module):
    """The plainest backbone."""

    out_channels = 3
    normalisation = Normalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))

    def forward(self, images: Tensor) -> Tensor:
        return images


class _Tests:
    def __init__(self, cfg: TrainConfig, folder: Path) -> None:
        self.cfg, self.folder = cfg, folder
        folder.mkdir()

    def open(self, start: int) -> list[Logger]:
        squares = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        run = FollowedRun(self.folder, start, to_plain(self.cfg), lambda: squares)
        chosen = named_parts(self.cfg.logger, "logger")
        return [build_part(node, Logger, f"logger.{name}", run=run) for name, node in chosen.items()]

    def is_one(self) -> str | None:
        try:
            check_loggers(self.cfg)
            loggers = self.open(0)
        except ConfigError as error:
            return str(error)
        for logger in loggers:
            logger.close()
        return None

    def follow(self, start: int, steps: tuple[int, ...]) -> str | None:
        model = EmbeddingModel(
            _Plain(), GlobalAveragePooling(3), embedding_dim=4, preprocess=torch.from_numpy
        )
        for logger in self.open(start):
            for step in steps:
                if step:
                    logger.step(step, 1.0 / step, 0.5)
                    logger.training(step, {"loss/total": 1.0 / step, "learning_rate/head": 1e-3})
                logger.validation(step, METRICS, model)
            logger.close()
        return None
