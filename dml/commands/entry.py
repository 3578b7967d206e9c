"""From what was typed behind ``dml train`` to training: Hydra composes and refuses before torch is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig

from dml.command_line import PROGRAM
from dml.config import TrainConfig, register_schema
from dml.installation import CONFIGS
from dml.overrides import as_typed
from dml.reporting.endings import readable_errors
from dml.reporting.former_names import refuse_former_names

__all__ = ["compose_and_train"]


def compose_and_train(typed: Sequence[str]) -> None:
    """Train with overrides and Hydra's own options, in each of the processes that torchrun has started.

    Raises:
        ConfigError: a value cannot be read, or a row, a loss or a key is named as it was formerly called.
        SystemExit: Hydra refuses something, or the run has failed.
    """
    words = as_typed(typed)
    refuse_former_names(words)
    register_schema()
    sys.argv = [f"{PROGRAM} train", *words]  # Hydra reads what follows
    with _processes():
        _composed()


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
@readable_errors
def _composed(cfg: TrainConfig) -> None:
    from dml.reporting.departures import print_departures
    from dml.train import train as train_and_evaluate

    hydra_config = HydraConfig.get()
    print_departures(cfg, hydra_config.runtime.choices, hydra_config.overrides.task)
    train_and_evaluate(cfg, Path(hydra_config.runtime.output_dir), hydra_config.overrides.task)


def _processes() -> AbstractContextManager[None]:
    """Those that torchrun started, for the block; else there is one, which needs no torch for that."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return nullcontext()
    from dml.distributed import process_group

    return process_group()
