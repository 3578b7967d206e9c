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
from dml.devices import choose_device
from dml.distributed import is_main
from dml.run_folder import RunFolder
from dml.training import (
    HistoryLogger,
    Logger,
    ProgressLogger,
    SlowStepLogger,
    StepLogger,
    TensorBoardLogger,
)
from dml.training.loggers import close_or_warn, open_or_warn

__all__ = ["open_loggers"]

log = logging.getLogger(__name__)

WATCHED = 6  # images in which TensorBoard shows what the pooling looks at


@contextmanager
def open_loggers(
    cfg: TrainConfig, run: RunFolder, *, start: int, watched: Records | None = None
) -> Iterator[list[Logger]]:
    """Everything that follows the course of a run, closed at the end of the block; the main process has it.

    What cannot be opened or closed, as on a full disk, is named in a warning.

    watched: the set of which TensorBoard shows what the pooling looks at, in a few images; None for none.
    """
    if not is_main():
        yield []
        return

    def tensorboard() -> Logger:
        images = None if watched is None else _spread_images(cfg, watched)
        return TensorBoardLogger(run.tensorboard, start=start, images=images)

    threads = torch.get_num_threads()
    threaded = choose_device(cfg).type == "cpu" and threads > 1
    loggers = [
        *open_or_warn(run.history.name, lambda: HistoryLogger(run.history, start=start)),
        *open_or_warn(run.steps.name, lambda: StepLogger(run.steps, start=start)),
        *([SlowStepLogger(threads=threads)] if threaded else ()),
        *(open_or_warn("TensorBoard", tensorboard) if _writes_events(cfg) else ()),
        *open_or_warn("the bar", lambda: ProgressLogger(Console(), start=start, stop=cfg.trainer.max_steps)),
    ]
    try:
        yield loggers
    finally:
        for logger in loggers:
            close_or_warn(logger)


def _writes_events(cfg: TrainConfig) -> bool:
    if cfg.logger.tensorboard and find_spec("tensorboard") is None:
        log.warning(
            "TensorBoard is not installed, so no events are written, and history.csv has the figures: pip install "
            "tensorboard, or say logger.tensorboard=false"
        )
        return False
    return cfg.logger.tensorboard


def _spread_images(cfg: TrainConfig, records: Records) -> Tensor:
    """Images at equal distances in a set, always the same ones, as the model sees them: (n, 3, size, size)."""
    transform, count = build(cfg.transform.evaluation), min(WATCHED, len(records))
    return torch.stack([transform(records.image(i * len(records) // count)) for i in range(count)])
