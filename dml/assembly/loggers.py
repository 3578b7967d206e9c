"""What follows the course of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from rich.console import Console
from torch import Tensor

from dml.assembly.parts import build_part, named_parts
from dml.config import TrainConfig, build, check_component, to_plain
from dml.contracts import FollowedRun, Logger
from dml.data import Records
from dml.devices import choose_device
from dml.distributed import is_main
from dml.run_folder import RunFolder
from dml.training import HistoryLogger, ProgressLogger, SlowStepLogger, StepLogger
from dml.training.loggers import close_or_warn, open_or_warn

__all__ = ["check_loggers", "open_loggers"]

WATCHED = 6  # images of which a logger may show what the pooling looks at


@contextmanager
def open_loggers(
    cfg: TrainConfig, run: RunFolder, *, start: int, watched: Records | None = None
) -> Iterator[list[Logger]]:
    """Everything that follows the course of a run, closed at the end of the block; the main process has it.

    What cannot be opened or closed, as on a full disk, is named in a warning.

    watched: the set of which loggers may show a few images; None for none.
    """
    if not is_main():
        yield []
        return
    threads = torch.get_num_threads()
    threaded = choose_device(cfg).type == "cpu" and threads > 1
    followed = FollowedRun(
        run.path, start, to_plain(cfg), lambda: None if watched is None else _spread_images(cfg, watched)
    )
    loggers = [
        *open_or_warn(run.history.name, lambda: HistoryLogger(run.history, start=start)),
        *open_or_warn(run.steps.name, lambda: StepLogger(run.steps, start=start)),
        *([SlowStepLogger(threads=threads)] if threaded else ()),
    ]
    for name, node in named_parts(cfg.logger, "logger").items():
        key = f"logger.{name}"
        loggers += open_or_warn(key, partial(build_part, node, Logger, key, run=followed))
    loggers += open_or_warn(
        "the bar", lambda: ProgressLogger(Console(), start=start, stop=cfg.trainer.max_steps)
    )
    try:
        yield loggers
    finally:
        for logger in loggers:
            close_or_warn(logger)


def check_loggers(cfg: TrainConfig) -> None:
    """Refuse what names no logger before anything runs; one that merely cannot be opened costs no run.

    Raises:
        ConfigError: a ``_target_`` that is none, or an argument that it does not take.
    """
    for node in named_parts(cfg.logger, "logger").values():
        check_component(node)


def _spread_images(cfg: TrainConfig, records: Records) -> Tensor:
    """Images at equal distances in a set, always the same ones, as the model sees them: (n, 3, size, size)."""
    transform, count = build(cfg.transform.evaluation), min(WATCHED, len(records))
    return torch.stack([transform(records.image(i * len(records) // count)) for i in range(count)])
