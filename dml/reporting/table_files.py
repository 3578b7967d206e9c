"""Tables as files in configs/table/: rows that are spelled out, or a product of sets, settings, losses and poolings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.config import ConfigError
from dml.installation import CONFIGS
from dml.reporting.former_names import former_row, refuse_former_names

__all__ = [
    "AXES",
    "TABLES",
    "Table",
    "TableDefinition",
    "TableRow",
    "read_definition",
    "read_tables",
    "spelled_row",
]

TABLES = CONFIGS / "table"
AXES = ("sets", "settings", "losses", "poolings")


@dataclass
class TableDefinition:
    """What a file says: groups, or the four axes of a product.

    groups:    rows; the first of a group is what the others of it are compared with. A row is an experiment, or one
               with overrides of its own behind it: ``collage/gsp pooling.sharpness=5``.
    sets:      choices of ``dataset=``.
    settings:  choices of ``published=``.
    losses:    choices of ``loss=``, each with overrides behind it if it has any: ``c1 memory=xbm``. Each is a group.
    poolings:  choices of ``pooling=``, likewise; the first is what the others are compared with.
    overrides: what every command of the table has besides.
    folds:     models of an ensemble; None under a protocol without folds.
    """

    groups: list[list[str]] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    poolings: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    folds: int | None = MISSING
    seeds: list[int] = MISSING
    metrics: list[str] = MISSING


@dataclass(frozen=True)
class TableRow:
    """A row: its name in the table, what it says to ``dml train``, and the name that its folder had formerly."""

    name: str
    overrides: tuple[str, ...]
    former: str | None = None

    def folder(self, table: Path) -> Path:
        """Where the runs of the row lie in the folder of its table; the former place if they lie there."""
        former = None if self.former is None else table / self.former
        return (
            former if former is not None and former.is_dir() else table / re.sub(r"[^\w.]+", "_", self.name)
        )


@dataclass(frozen=True)
class Table:
    """Rows on one data set; the first of a group is what the others of it are compared with.

    name: of its folder: that of its file, or SET_SETTING of a product.
    """

    name: str
    groups: tuple[tuple[TableRow, ...], ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    folds: int | None = None
    overrides: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[TableRow, ...]:
        return tuple(row for group in self.groups for row in group)


def read_definition(name: str) -> TableDefinition:
    """What the file of a table says.

    Raises:
        ConfigError: there is no such table, or its file has a key, a type or a gap that the schema refuses.
    """
    path = TABLES / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"table={name} {_instead(name)}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(TableDefinition), OmegaConf.load(path))
        definition = cast(TableDefinition, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path} is no table: {str(error).splitlines()[0]}") from error
    given = [axis for axis in AXES if getattr(definition, axis)]
    if given != ([] if definition.groups else list(AXES)):
        raise ConfigError(
            f"{path} is no table: it has {', '.join(given) or 'no rows'}{' and groups' * bool(definition.groups)}; "
            f"give groups, or all of {', '.join(AXES)}"
        )
    return definition


def _instead(name: str) -> str:
    """What there is instead of a table that has no file: the product that it is a part of, or all."""
    known = sorted(path.stem for path in TABLES.glob("*.yaml"))
    for product in known:
        definition = read_definition(product)
        for dataset, setting in itertools.product(definition.sets, definition.settings):
            if name == f"{dataset}_{setting}":
                return f"is a part of a product now: type table={product} 'sets=[{dataset}]'"
    return f"does not exist; accepted: {', '.join(known)}"


def read_tables(name: str, narrowed: Mapping[str, Sequence[str]] | None = None) -> list[Table]:
    """The table of a file, or for a product those of each of its settings and data sets.

    narrowed: axes of a product that have other values than in the file.

    Raises:
        ConfigError: as in read_definition and refuse_former_names; a table that is no product is narrowed; an axis
            without a value, or with one twice.
    """
    definition = read_definition(name)
    rest = (tuple(definition.seeds), tuple(definition.metrics), definition.folds, tuple(definition.overrides))
    if definition.groups:
        if narrowed:
            raise ConfigError(
                f"{', '.join(narrowed)}: table={name} spells its rows out; leave these axes away"
            )
        return [Table(name, tuple(tuple(map(spelled_row, group)) for group in definition.groups), *rest)]
    axes = {axis: (narrowed or {}).get(axis, getattr(definition, axis)) for axis in AXES}
    for axis, values in axes.items():
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"{axis}=[{','.join(values)}]: give at least one, and each once")
    sets, settings, losses, poolings = axes.values()
    return [
        Table(
            f"{dataset}_{setting}",
            tuple(
                tuple(_product_row(setting, dataset, loss, pooling) for pooling in poolings)
                for loss in losses
            ),
            *rest,
        )
        for setting in settings
        for dataset in sets
    ]


def spelled_row(row: str) -> TableRow:
    """The row ``EXPERIMENT OVERRIDES``, named without the folder of its experiment."""
    experiment, *overrides = row.split()
    name = " ".join([experiment.rpartition("/")[2], *overrides])
    return TableRow(name, (f"experiment={experiment}", *overrides))


def _product_row(setting: str, dataset: str, loss: str, pooling: str) -> TableRow:
    """A point of a product, named by its loss and pooling: ``contrastive_xbm_gsp``."""
    words = [*loss.split(), *pooling.split()]
    overrides = (f"published={setting}", f"dataset={dataset}", *f"loss={loss} pooling={pooling}".split())
    refuse_former_names(overrides)
    return TableRow(
        "_".join(word.removeprefix("memory=") for word in words),
        overrides,
        former_row(dataset, setting, loss.split(), pooling.split()),
    )
