"""What a process finds around it, before anything runs: a place for its run folder, and streams that take any text."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dml.reporting.lost_output import outlast_lost_output

__all__ = ["OutputFolder", "accept_any_text"]


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


def accept_any_text() -> None:
    """Print what the encoding of the terminal lacks, such as ✓ where it is ASCII, as an escape and not as an error.

    Where file names are not in UTF-8, as in the locale C without Python's UTF-8 mode, it says what that means.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    outlast_lost_output()
    encoding = sys.getfilesystemencoding()
    if encoding.replace("-", "") != "utf8":
        sys.stderr.write(
            f"warning: file names are in {encoding} here, so what a table names in other letters is not found: set "
            "PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8\n"
        )
