"""Levels of difficulty: each query among the images of its own group."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dml.data import Records
from dml.retrieval import Evaluator
from dml.types import Batch, Pooled

CLASSES = ("a", "b", "c", "d", "e")
GROUPS = {"a": "one", "c": "one", "b": "two", "d": "two", "e": "alone"}
EACH = 6


class Table(nn.Module):
    """Embeds an image as the row of a table that its first byte names."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = vectors

    def forward(self, images: Tensor) -> Pooled:
        return Pooled(self.vectors[images[:, 0, 0, 0].long()])


def batches(records: Records) -> list[Batch]:
    indices = torch.arange(len(records))
    images = indices.to(torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1)
    return [Batch(images, torch.from_numpy(records.labels), indices)]


def noisy(*, roles: bool) -> tuple[Records, Tensor]:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), EACH))
    centres = rng.normal(size=(len(CLASSES), 4))[labels]
    vectors = torch.from_numpy(centres + 1.5 * rng.normal(size=centres.shape)).float()
    is_query = np.arange(len(labels)) % 3 == 0 if roles else None
    files = tuple(map(str, range(len(labels))))
    images: Any = np.zeros((len(labels), 1, 1, 3), np.uint8)
    records = Records(
        images, np.arange(len(labels)), labels, CLASSES, files, is_query, {"kind": GROUPS, "none": {"a": "x"}}
    )
    return records, nn.functional.normalize(vectors)


def by_hand(records: Records, vectors: Tensor) -> tuple[float, float, int]:
    """Recall@1, map@r and number of queries within groups, query by query."""
    group = [GROUPS[CLASSES[label]] for label in records.labels]
    recall, precision = [], []
    for q in range(len(group)):
        if group[q] == "alone" or (records.is_query is not None and not records.is_query[q]):
            continue
        gallery = [
            i
            for i in range(len(group))
            if group[i] == group[q] and (i != q if records.is_query is None else not records.is_query[i])
        ]
        ranked = sorted(gallery, key=lambda i: -float(vectors[q].double() @ vectors[i].double()))
        right = [records.labels[i] == records.labels[q] for i in ranked]
        if any(right):
            r = sum(right)
            recall.append(float(right[0]))
            precision.append(sum(sum(right[: i + 1]) / (i + 1) for i in range(r) if right[i]) / r)
    return float(np.mean(recall)), float(np.mean(precision)), len(recall)


@pytest.mark.parametrize("roles", [False, True])
def test_a_level_searches_each_query_among_its_own_group(roles: bool) -> None:
    records, vectors = noisy(roles=roles)
    evaluator = Evaluator(batches, recall_at=[1], backend="torch", device=torch.device("cpu"))
    metrics = evaluator(Table(vectors), records).metrics
    recall, precision, queries = by_hand(records, vectors)
    assert metrics["kind/recall@1"] == pytest.approx(recall) and metrics["kind/map@r"] == pytest.approx(
        precision
    )
    assert metrics["kind/queries"] == queries < metrics["queries"]
    assert metrics["kind/recall@1"] > metrics["recall@1"]


def test_a_level_without_two_classes_to_tell_apart_is_not_measured_nor_one_with_too_few_images() -> None:
    records, vectors = noisy(roles=True)
    measure = partial(Evaluator, batches, backend="torch", device=torch.device("cpu"))
    names = set(measure(recall_at=[1])(Table(vectors), records).metrics)
    assert not any(name.startswith("none/") for name in names)
    few = measure(recall_at=[1, 12])(Table(vectors), records).metrics
    assert "recall@12" in few and not any("/" in name for name in few)


def test_without_levels_the_names_are_those_of_before() -> None:
    records, vectors = noisy(roles=False)
    evaluator = Evaluator(batches, recall_at=[1], backend="torch", device=torch.device("cpu"))
    metrics = evaluator(Table(vectors), replace(records, levels={})).metrics
    assert list(metrics) == ["recall@1", "r_precision", "map@r", "queries", "gallery", "left_out"]
