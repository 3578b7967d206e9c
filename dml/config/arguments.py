"""Arguments of the scripts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.errors import ConfigError

__all__ = ["parse_arguments"]


def parse_arguments(schema: type, arguments: list[str]) -> Any:
    """Read ``key=value`` arguments of a script into its schema, a dataclass.

    Raises:
        ConfigError: an unknown key, a wrong type, or a required key left out.
    """
    accepted = ", ".join(f"{option.name}=" for option in fields(schema))
    if wrong := [argument for argument in arguments if "=" not in argument]:
        raise ConfigError(f"{wrong[0]!r} is not of the form key=value; accepted keys: {accepted}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_cli(arguments))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{str(error).splitlines()[0]}; accepted keys: {accepted}") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{' '.join(arguments)} has a value that YAML reads as something other than text: put quotes inside of "
            "those of the shell, as in \"images='*.jpg'\""
        ) from error
    if missing := sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(f"{missing[0]}= is required; accepted keys: {accepted}")
    return OmegaConf.to_object(merged)
