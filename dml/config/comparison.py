"""How two configurations compare: what can change a number, and what of it differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from dml.config.schema import EXECUTION, TrainConfig

__all__ = ["config_differences", "settings", "to_plain"]

PLACES = (
    "backbone.checkpoint",
    "backbone.weights",
    "dataset.name",
    "dataset.path",
    "dataset.root",
    "protocol.run",
)
"""Files and folders, which may be moved: only their own names say which ones they are."""


def to_plain(cfg: TrainConfig) -> dict[str, Any]:
    """The resolved configuration as plain dicts, lists and values."""
    return cast(dict[str, Any], OmegaConf.to_container(cast(DictConfig, cfg), resolve=True))


def settings(plain: dict[str, Any]) -> dict[str, Any]:
    """What can change a number, by dotted key: everything but the execution, and of places only their own names.

    The folder ``paths.data`` itself has the name "", since every machine calls it otherwise.
    """
    data = plain.get("paths", {}).get("data")
    return {
        key: _name(value, data) if key in PLACES else value
        for key, value in _leaves(plain)
        if not any(key == e or key.startswith(f"{e}.") for e in EXECUTION)
    }


def _name(place: Any, data: Any) -> Any:
    if not isinstance(place, str) or place == MISSING:
        return place
    return "" if data is not None and Path(place) == Path(data) else Path(place).name


def config_differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What can change a number and differs, a line ``key: before -> after`` for each key.

    What is still open (``???``) afterwards differs from nothing.
    """
    old, new = settings(before), settings(after)
    shown_old, shown_new = dict(_leaves(before)), dict(_leaves(after))
    absent = "(absent)"
    return [
        f"{key}: {shown_old.get(key, absent)} -> {shown_new.get(key, absent)}"
        for key in {**old, **new}
        if new.get(key) != MISSING and old.get(key, absent) != new.get(key, absent)
    ]


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
