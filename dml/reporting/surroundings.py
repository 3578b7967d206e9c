"""What a process finds around it, before anything runs: a place for its run folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

__all__ = ["OutputFolder"]


class OutputFolder(Callback):
    """Say in a sentence where a run folder cannot be made. Hydra makes it before it gives the command to us."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _make(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _make(config.hydra.sweep.dir, "hydra.sweep.dir")


def _make(folder: str, key: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(
            f"error: the run folder {folder} cannot be made: {error}; choose another place by paths.runs=DIR or "
            f"{key}=DIR\n"
        )
        sys.exit(2)
