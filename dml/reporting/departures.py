"""What of a run with ``published=`` no publication says: the values that are this project's, or were typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from dml.config import EXECUTION, TrainConfig
from dml.distributed import is_main
from dml.reporting.table_files import TABLES, TableDefinition, read_definition

__all__ = ["departures", "print_departures"]

AXES = ("published", "dataset", "loss", "memory", "pooling")
FREE = (*EXECUTION, "seed", "protocol.fold", "hydra", "dataset.root")
"""What may differ between runs of one row."""


def print_departures(cfg: TrainConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Say on start what departures finds; the main process does."""
    lines = departures(cfg, choices, overrides)
    if lines and is_main():
        print("\n  ".join([f"published={choices['published']}, but not all of it as published:", *lines]))


def departures(cfg: TrainConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """A sentence for each choice that was not published with the others, with the values that are this project's.

    Published are the products in configs/table/. Nothing is said of a run without ``published=``.

    Args:
        cfg: not resolved yet, so that it shows which value depends on what.
        choices: by group, as Hydra has them.
        overrides: what was typed.
    """
    setting, dataset, pooling = choices["published"], choices["dataset"], choices["pooling"]
    if setting == "none":
        return []
    every = [read_definition(path.stem) for path in sorted(TABLES.glob("*.yaml"))]
    tables = [table for table in every if setting in table.settings]
    of_set = [table for table in tables if dataset in table.sets]
    lines = [] if of_set else [f"dataset={dataset} was not: {_values(cfg, lookup='by_dataset')}"]
    lines += _of_loss(cfg, choices, tables)
    accepted = _words("poolings", of_set or tables)
    if pooling not in accepted:
        where = f" with dataset={dataset}" if of_set else ""
        values = _values(cfg, "pooling", "zero_shot")
        lines.append(f"pooling={pooling} was not{where}, but {' or '.join(accepted)}: {values}")
    typed = [override for override in overrides if _counts(override)]
    return lines + [f"typed: {' '.join(typed)}"] * bool(typed)


def _of_loss(
    cfg: TrainConfig, choices: Mapping[str, Any], tables: Sequence[TableDefinition]
) -> Iterator[str]:
    loss, memory = choices["loss"], choices["memory"]
    known = [entry.split() for entry in _words("losses", tables)]
    if loss not in [name for name, *_ in known]:
        of_kind = f"sampler={choices['sampler']}, {_values(cfg, lookup='by_kind')}"
        yield f"loss={loss} was not: {_values(cfg, 'loss')}; by its kind also {of_kind}"
    if memory != "none" and [loss, f"memory={memory}"] not in known:
        yield f"memory={memory} was not with loss={loss}: {_values(cfg, 'memory')}"


def _words(axis: str, tables: Sequence[TableDefinition]) -> list[str]:
    return list(dict.fromkeys(word for table in tables for word in getattr(table, axis)))


def _counts(override: str) -> bool:
    """Whether something typed changes a value beyond the choice of a row."""
    key = OverridesParser.create().parse_override(override).key_or_group
    return key not in AXES and not any(key == free or key.startswith(f"{free}.") for free in FREE)


def _values(cfg: TrainConfig, *parts: str, lookup: str = "") -> str:
    """Values below some parts, or the ones that a lookup gives, as one would type them."""
    raw = _leaves(OmegaConf.to_container(cast(DictConfig, cfg), resolve=False))
    return ", ".join(
        f"{key}={OmegaConf.select(cast(DictConfig, cfg), key)}"
        for key, value in raw
        if (key.partition(".")[0] in parts if parts else f"${{{lookup}:" in str(value))
        and value != "???"
        and not key.rpartition(".")[2].startswith("_")
    )


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], node
