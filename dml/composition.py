"""The configuration that ``dml train OVERRIDES`` would run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from dml.config import ConfigError, TrainConfig, refusal, register_schema
from dml.installation import CONFIGS
from dml.overrides import as_typed, train_command

__all__ = ["compose"]


def compose(overrides: Sequence[str]) -> TrainConfig:
    """Compose a configuration, nothing of it built or looked up yet.

    Raises:
        ConfigError: a choice or a key that does not exist, or a value of the wrong type.
    """
    register_schema()
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return cast(TrainConfig, hydra.compose("train", as_typed(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{train_command(*overrides)} does not compose: {refusal(error)}") from error
