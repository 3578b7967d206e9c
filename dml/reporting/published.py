"""Figures that others published, for the settings that this project has too.

They stand in published.csv, in per cent, each with its source. A row there is found by data set, protocol, backbone,
dimension, pooling, loss and whether there is a memory; what else a run has is held against configs/published/.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dml.composition import compose
from dml.reporting.results import settings_of

__all__ = ["Published", "departures_from_published", "published"]

FILE = Path(__file__).with_name("published.csv")
SETTINGS = {"mlrc": "mlrc", "conventional": "conventional_bn_inception"}
POOLINGS = {"GlobalAveragePooling": "gap", "GlobalAverageMaxPooling": "gap_max"}
LOSSES = {
    "C1Loss": "c1",
    "ContrastiveLoss": "contrastive",
    "MultiSimilarityLoss": "multi_similarity",
    "ProxyAnchorLoss": "proxy_anchor",
    "ProxyNCALoss": "proxy_nca_pp",
    "SoftTripleLoss": "soft_triple",
    "TripletMarginLoss": "triplet",
}
"""What is chosen for the kinds that published.csv names."""

COUNTED = ("evaluator.recall_at",)
"""What changes which figures there are, and none of them."""


class Published(NamedTuple):
    """value: a fraction 0..1; source: where it was published."""

    value: float
    source: str


def published(settings: Mapping[str, Any], *, reading: str, metric: str) -> Published | None:
    """What is published for the kinds of parts that a run has; None where nothing is known.

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


def departures_from_published(settings: Mapping[str, Any], *, reading: str) -> list[str]:
    """In what a run differs from the setting that is published for its kinds of parts; nothing where none is known.

    Each as ``trainer.max_steps=20 (50000)``, with the value of configs/published/ in brackets.
    """
    if (*_kinds(settings), reading) not in _table():
        return []
    expected = _expected(*_kinds(settings))
    keys = [key for key in dict.fromkeys([*expected, *settings]) if key not in COUNTED]
    return [
        f"{key}={settings.get(key)} ({expected.get(key)})"
        for key in keys
        if expected.get(key) != settings.get(key) and "???" not in (expected.get(key), settings.get(key))
    ]


@cache
def _expected(
    dataset: str, protocol: str, backbone: str, dimension: str, pooling: str, loss: str, memory: str
) -> dict[str, Any]:
    choices = [f"dataset={dataset}", f"loss={LOSSES[loss]}", f"pooling={POOLINGS[pooling]}"]
    choices += ["memory=xbm"] * (memory == "yes")
    return settings_of(compose([f"published={SETTINGS[protocol]}", *choices]))


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
