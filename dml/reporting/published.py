"""Figures that others published, for the settings that this project has too.

They stand in published.csv, in per cent, each with its source. A row there is found by data set, protocol, backbone,
dimension, pooling, loss and whether there is a memory.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Published", "published"]

FILE = Path(__file__).with_name("published.csv")


class Published(NamedTuple):
    """value: a fraction 0..1; source: where it was published."""

    value: float
    source: str


def published(settings: Mapping[str, Any], *, reading: str, metric: str) -> Published | None:
    """What is published for the settings of a run; None where nothing is known.

    Args:
        settings: by dotted key.
        reading: ``separated``, ``concatenated``, ``test`` or ``best on test``.
        metric: as in metrics.json.
    """
    if settings.get("miner._target_"):
        return None  # every published row was trained without
    row = _table().get((*_kinds(settings), reading))
    if row is None or not row.get(metric):
        return None
    return Published(float(row[metric]) / 100, row["source"])


def _kinds(settings: Mapping[str, Any]) -> tuple[str, ...]:
    def kind(part: str) -> str:
        return str(settings.get(f"{part}._target_")).rpartition(".")[2]

    return (
        kind("dataset").removesuffix("_dataset"),
        kind("protocol"),
        kind("backbone"),
        str(settings.get("embedding_dim")),
        kind("pooling"),
        kind("loss"),
        "yes" if settings.get("memory.batches") else "no",
    )


@cache
def _table() -> dict[tuple[str, ...], dict[str, str]]:
    with FILE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = ("dataset", "protocol", "backbone", "embedding_dim", "pooling", "loss", "memory", "reading")
    return {tuple(row[key] for key in keys): row for row in rows}
