"""Groups without tests of their own: their components are there and take the arguments that the file gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from dml.checks.attempt import Attempt, Attempts
from dml.config import TrainConfig, check_component, check_config

__all__ = ["of_group"]


def of_group(group: str) -> Attempts:
    """The tests of a group."""

    def attempts(cfg: TrainConfig) -> Iterator[Attempt]:
        def fits() -> str | None:
            check_config(cfg, f"the configuration with {group}")
            return None

        def components() -> str | None:
            for node in _nodes(cast(DictConfig, cfg).get(group, cfg)):
                check_component(node)
            return None

        yield Attempt("its keys and values fit the schema", fits, vital=True)
        yield Attempt("its components are there and take their arguments", components)

    return attempts


def _nodes(node: Any) -> Iterator[DictConfig]:
    """Every component within a node, itself too."""
    if not OmegaConf.is_dict(node):
        return
    if node.get("_target_") is not None:
        yield node
    for key in node:
        if not OmegaConf.is_missing(node, key):
            yield from _nodes(node[key])
