"""A set at other difficulties: each query searches a part of the gallery, the images of its own group."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["groups_of_images", "metrics_within_groups"]

Measure = Callable[[Tensor], Mapping[str, float]]  # (n,) bool, the images that take part
SIZES = ("queries", "gallery", "left_out")


def groups_of_images(labels: Tensor, class_names: Sequence[str], group_of: Mapping[str, str]) -> list[Tensor]:
    """The images of each group of at least two classes: a mask (n,) bool for each, in the order of their names.

    Args:
        labels: (n,) int64, index into class_names.
        group_of: class -> group; classes without one are in none.
    """
    classes: dict[str, list[int]] = {}
    for label, name in enumerate(class_names):
        if name in group_of:
            classes.setdefault(group_of[name], []).append(label)
    return [
        torch.isin(labels, torch.tensor(members, device=labels.device))
        for _, members in sorted(classes.items())
        if len(members) > 1
    ]


def metrics_within_groups(groups: Sequence[Tensor], measure: Measure) -> dict[str, float]:
    """The metrics of all groups in one, each query counting the same, and the number of queries.

    Args:
        groups: at least one.
        measure: called with each.
    """
    measured = [measure(group) for group in groups]
    queries = sum(int(metrics["queries"]) for metrics in measured)
    means = {
        name: math.fsum(metrics["queries"] * metrics[name] for metrics in measured) / queries
        for name in measured[0]
        if name not in SIZES
    }
    return {**means, "queries": queries}
