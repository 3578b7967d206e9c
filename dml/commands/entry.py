"""From what was typed behind ``dml train`` to training: Hydra composes and refuses before torch is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from dml.command_line import PROGRAM
from dml.config import ConfigError, TrainConfig, check_config, refusal, register_schema
from dml.installation import CONFIGS
from dml.overrides import MULTIRUN, as_typed, beside_resume
from dml.reporting.endings import readable_errors
from dml.reporting.former_names import refuse_former_names
from dml.reporting.surroundings import remove_unused_folders

__all__ = ["compose_and_train"]


def compose_and_train(typed: Sequence[str]) -> None:
    """Train with overrides and Hydra's own options, in each of the processes that torchrun has started.

    Raises:
        ConfigError: a value cannot be read, a key or a choice does not exist, a value is of the wrong type, or a row, a
            loss or a key is named as it was formerly called.
        SystemExit: the run has failed.
    """
    words = sorted(
        beside_resume(as_typed(typed)), key=lambda word: word not in MULTIRUN
    )  # -m may stand anywhere
    refuse_former_names(words)
    register_schema()
    sys.argv = [f"{PROGRAM} train", *words]  # Hydra reads what follows
    try:
        with _processes(), _refusals():
            _composed()
    finally:
        remove_unused_folders()


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
@readable_errors
def _composed(cfg: TrainConfig) -> None:
    hydra_config = HydraConfig.get()
    check_config(cfg, "the configuration")  # before torch is imported
    from dml.reporting.departures import print_departures
    from dml.train import train as train_and_evaluate

    print_departures(cfg, hydra_config.runtime.choices, hydra_config.overrides.task)
    train_and_evaluate(cfg, Path(hydra_config.runtime.output_dir), hydra_config.overrides.task)


@contextmanager
def _refusals() -> Iterator[None]:
    """Let what Hydra refuses through, in a sentence, in place of its own report."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(refusal(error)) from error
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _processes() -> AbstractContextManager[None]:
    """Those that torchrun started, for the block; else there is one, which needs no torch for that."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return nullcontext()
    from dml.distributed import process_group

    return process_group()
