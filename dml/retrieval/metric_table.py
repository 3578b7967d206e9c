"""Every metric: how it is counted in a ranking, what kind of number it is, and which way is better.

A metric is an entry of METRICS; evaluation, ``trainer.select_by``, the terminal and the reports read it there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["METRICS", "Metric", "Ranking", "counted_in_rankings", "metric", "ranks_of"]


class Ranking(NamedTuple):
    """The items found for Q queries, the nearest first, at least R of them.

    correct: (Q, k) bool.
    found:   (Q, k) int64, how many correct ones there are up to each.
    counts:  (Q,) int64, R, how many there are in the gallery.
    """

    correct: Tensor
    found: Tensor
    counts: Tensor

    @property
    def ranks(self) -> Tensor:
        return torch.arange(1, self.correct.shape[1] + 1)

    @property
    def counted(self) -> Tensor:
        """The correct ones among the first R."""
        return self.correct & (self.ranks <= self.counts[:, None])


@dataclass(frozen=True)
class Metric:
    """A number that is the mean over queries, or that the evaluation knows otherwise.

    of_queries: of a ranking, (Q,) float64, summed in the order of ranks, so that its depth changes no bit; takes k too
        where the name ends with ``@k``. None: it is not counted in a ranking.
    kind: a share lies in 0..1 and is shown in per cent.
    """

    of_queries: Callable[..., Tensor] | None = None
    kind: Literal["share", "count"] = "share"
    higher_is_better: bool = True

    def score(self, value: float) -> float:
        """The value, its sign such that larger is better."""
        return value if self.higher_is_better else -value

    @property
    def scale(self) -> float:
        """What a value is multiplied by in tables."""
        return 100 if self.kind == "share" else 1

    def shown(self, value: float) -> str:
        if self.kind == "share":
            return f"{value:.2%}"
        return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _recall(ranking: Ranking, k: int) -> Tensor:
    return (ranking.found[:, k - 1] > 0).double()


def _r_precision(ranking: Ranking) -> Tensor:
    return ranking.counted.sum(dim=1).double() / ranking.counts


def _average_precision(ranking: Ranking) -> Tensor:
    precision = torch.where(ranking.counted, ranking.found.double() / ranking.ranks, 0.0)
    return precision.cumsum(dim=1)[:, -1] / ranking.counts


METRICS = {
    "recall@k": Metric(_recall),  # a correct item among the first k
    "r_precision": Metric(_r_precision),  # correct items among the first R, over R
    "map@r": Metric(_average_precision),  # precision at each correct item among the first R, summed, over R
    "queries": Metric(kind="count"),  # that the means are over
    "gallery": Metric(kind="count"),  # items
    "left_out": Metric(
        kind="count", higher_is_better=False
    ),  # queries without any correct item in the gallery
    "selection_accuracy": Metric(),  # share of the weights of the pooling that lies on the target
}
"""By the names of metrics.json, in their order."""


def metric(name: str) -> Metric:
    """The metric of a name such as ``recall@10``; one that nobody knows any more is a share."""
    return METRICS.get(_family(name), Metric())


def counted_in_rankings(recall_at: Sequence[int]) -> dict[str, Callable[[Ranking], Tensor]]:
    """What is counted in every ranking, by name, ``@k`` once for each k."""
    counted: dict[str, Callable[[Ranking], Tensor]] = {}
    for name, entry in METRICS.items():
        if entry.of_queries is not None and name.endswith("@k"):
            counted |= {name[:-1] + str(k): partial(entry.of_queries, k=k) for k in recall_at}
        elif entry.of_queries is not None:
            counted[name] = entry.of_queries
    return counted


def ranks_of(names: Iterable[str]) -> list[int]:
    """The k of the names that have one."""
    return list(dict.fromkeys(int(k[1]) for name in names if (k := re.search(r"@(\d+)$", name))))


def _family(name: str) -> str:
    """Of ``cartons/recall@10``, which is the same at a level of difficulty, ``recall@k``."""
    return re.sub(r"@\d+$", "@k", name.rpartition("/")[2])
