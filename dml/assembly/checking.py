"""What of a configuration can be refused before any image is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from omegaconf import DictConfig, OmegaConf

from dml.config import TrainConfig, check_component

__all__ = ["check_components"]


def check_components(cfg: TrainConfig) -> None:
    """Hold the arguments of every component against what it takes. Values that only the data give may still be open.

    Raises:
        ConfigError: as in `check_component`.
    """
    for node in _components(cast(DictConfig, cfg)):
        check_component(node, may_be_open=True)


def _components(node: DictConfig) -> Iterator[DictConfig]:
    """The nodes that describe a component, but for those within another one."""
    for key in map(str, node):
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if not OmegaConf.is_dict(node[key]):
            continue
        if "_target_" in node[key]:
            if node[key]["_target_"] is not None:  # as of no miner
                yield node[key]
        else:
            yield from _components(node[key])
