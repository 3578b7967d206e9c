"""What follows the course of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from rich.console import Console
from torch import Tensor

from dml.config import TrainConfig, build
from dml.data import Records
from dml.distributed import is_main
from dml.run_folder import RunFolder
from dml.training import HistoryLogger, Logger, ProgressLogger, StepLogger, TensorBoardLogger

__all__ = ["open_loggers"]

log = logging.getLogger(__name__)

WATCHED = 6  # images in which TensorBoard shows what the pooling looks at


@contextmanager
def open_loggers(
    cfg: TrainConfig, run: RunFolder, *, start: int, watched: Records | None = None
) -> Iterator[list[Logger]]:
    """Everything that follows the course of a run, closed at the end of the block; the main process has it.

    watched: the set of which TensorBoard shows what the pooling looks at, in a few images; None for none.
    """
    if not is_main():
        yield []
        return
    loggers: list[Logger] = [
        HistoryLogger(run.history, start=start),
        StepLogger(run.steps, start=start),
    ]
    if cfg.logger.tensorboard and find_spec("tensorboard") is None:
        log.warning(
            "TensorBoard is not installed, so no events are written, and history.csv has the figures: pip install "
            "tensorboard, or say logger.tensorboard=false"
        )
    elif cfg.logger.tensorboard:
        images = None if watched is None else _spread_images(cfg, watched)
        loggers.append(TensorBoardLogger(run.tensorboard, start=start, images=images))
    loggers.append(ProgressLogger(Console(), start=start, stop=cfg.trainer.max_steps))
    try:
        yield loggers
    finally:
        for logger in loggers:
            logger.close()


def _spread_images(cfg: TrainConfig, records: Records) -> Tensor:
    """Images at equal distances in a set, always the same ones, as the model sees them: (n, 3, size, size)."""
    transform, count = build(cfg.transform.evaluation), min(WATCHED, len(records))
    return torch.stack([transform(records.image(i * len(records) // count)) for i in range(count)])
