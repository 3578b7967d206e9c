"""What a process finds around it, before anything runs: a place for its run folder, and what it leaves there."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

__all__ = ["OutputFolder", "remove_unused_folders"]

OF_HYDRA = "multirun.yaml"  # what it writes before the first run of several

_made: list[Path] = []


class OutputFolder(Callback):
    """Say in a sentence where a run folder cannot be made. Hydra makes it before it gives the command to us."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _make(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _make(config.hydra.sweep.dir, "hydra.sweep.dir")


def remove_unused_folders() -> None:
    """Remove what was made for runs that were refused: folders that this process made, and in which nothing is."""
    while _made:
        folder = _made.pop()
        with suppress(OSError):  # it is not empty, or not there any more
            if [path.name for path in folder.iterdir()] == [OF_HYDRA]:
                (folder / OF_HYDRA).unlink()
            folder.rmdir()


def _make(name: str, key: str) -> None:
    folder = Path(name)
    new = [path for path in (*reversed(folder.parents), folder) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(
            f"error: the run folder {folder} cannot be made: {error}; choose another place by paths.runs=DIR or "
            f"{key}=DIR\n"
        )
        sys.exit(2)
    _made.extend(new)
