"""Saved configurations, checked, and the one of a run, which nothing changes once it is complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.config.options import check, checked
from dml.config.refusals import refusal
from dml.config.schema import PARTS, TrainConfig, schema
from dml.errors import ConfigError, MissingFileError, user_files
from dml.migrations import FORMAT, migrate_config
from dml.trust import read_written_out, refuse_untrusted

__all__ = ["check_config", "load_config", "read_config", "settle"]


def check_config(cfg: TrainConfig, origin: str) -> TrainConfig:
    """The configuration merged into the schema, which refuses what ``+key=value`` may have smuggled in.

    Raises:
        ConfigError: a key or a type does not fit the schema, a value is out of range, or the format is not that of this
            version.
    """
    try:
        plain = OmegaConf.to_container(cast(DictConfig, cfg))  # a typed one would keep its extra keys
        merged = cast(DictConfig, OmegaConf.merge(schema(), plain))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{origin} does not fit the schema: {refusal(error)}") from error
    if merged.format != FORMAT:
        raise ConfigError(
            f"format={merged.format}: this is no choice, new runs are of format {FORMAT}; leave it out"
        )
    check(merged, TrainConfig, "")
    for key in PARTS:
        if not OmegaConf.missing_keys(merged[key]):
            checked(merged[key])
    return cast(TrainConfig, merged)


def settle(cfg: TrainConfig, *, num_classes: int) -> TrainConfig:
    """The configuration of a run once the data are known, complete and resolved; nothing can change it any more.

    The keys that the file of the loss leaves open (``???``) are filled.

    num_classes: of the training set.

    Raises:
        ConfigError: as in check_config.
    """
    settled = cast(DictConfig, check_config(cfg, "the configuration"))
    for key, value in {"num_classes": num_classes, "embedding_size": cfg.embedding_dim}.items():
        if OmegaConf.is_missing(settled.loss, key):
            settled.loss[key] = value
    OmegaConf.resolve(settled)
    OmegaConf.set_readonly(settled, True)
    return cast(TrainConfig, settled)


def load_config(path: Path, *, trust: Sequence[str] = ()) -> TrainConfig:
    """Read a saved configuration of which something is to be built.

    trust: packages that it may name besides the components of this framework; see `dml.trust`.

    Raises:
        UntrustedError: it names other code; nothing of it was imported.
        MissingFileError, ConfigError: as in read_config.
    """
    cfg = read_config(path)
    plain = cast(dict[str, Any], OmegaConf.to_container(cast(DictConfig, cfg)))
    plain.pop("logger")  # of a run that is over nobody opens its loggers
    refuse_untrusted(plain, str(path), trust=trust)
    return cfg


def read_config(path: Path) -> TrainConfig:
    """Read a saved configuration of this or an earlier version, of which nothing is built, and check it.

    Raises:
        MissingFileError: there is no such file.
        UntrustedError: it asks for values of its reader's environment, or repeats parts of itself.
        ConfigError: it is no YAML, a key or a type does not fit the schema, or a newer version wrote it.
    """
    if not path.is_file():
        raise MissingFileError(
            f"no configuration at {path}: a run folder holds config.yaml; give the folder of a run"
        )
    try:
        with user_files(f"reading {path}"):
            content = read_written_out(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no configuration: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no configuration: it holds no keys; give the config.yaml of a run")
    migrated = migrate_config(cast(dict[str, Any], content), str(path), writer=_writer(path))
    cfg = check_config(cast(TrainConfig, OmegaConf.create(migrated)), str(path))
    if missing := OmegaConf.missing_keys(cfg):
        raise ConfigError(f"{path} is not complete: {sorted(missing)[0]} is missing")
    return cfg


def _writer(path: Path) -> str | None:
    """The version of dml that wrote a config.yaml, if what stands beside it says so."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        environment = json.loads(path.with_name("environment.json").read_text(encoding="utf-8"))
        return str(environment["packages"]["dml"])
    return None
