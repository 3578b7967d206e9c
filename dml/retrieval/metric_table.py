"""Every metric: how it is counted in a ranking, what kind of number it is, and which way is better.

METRICS are those that are always counted; evaluation, ``trainer.select_by``, the terminal and the reports read them
there. A configuration may choose more, by ``metric=``, and a data set may have some of its own, `Records.measures`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dml.errors import ConfigError

__all__ = [
    "METRICS",
    "Metric",
    "Ranking",
    "check_metric",
    "counted_in_rankings",
    "introduce",
    "metric",
    "precision_at_k",
    "ranks_of",
]


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
}
"""By the names of metrics.json, in their order."""


_chosen: dict[str, Metric] = {}  # by a configuration of this process: what kind of numbers they are


def introduce(metrics: Mapping[str, Metric]) -> None:
    """Let `metric` know metrics that a configuration has chosen, so that they are compared and shown as they are."""
    _chosen.update(metrics)


def metric(name: str) -> Metric:
    """The metric of a name such as ``recall@10``; one that nobody here knows is a share of which more is better."""
    family = _family(name)
    return METRICS.get(family) or _chosen.get(family) or Metric()


def precision_at_k() -> Metric:
    """The share of correct items among the first k; of a query with fewer than k of them it cannot reach 1."""
    return Metric(lambda ranking, k: ranking.found[:, k - 1].double() / k)


def counted_in_rankings(
    recall_at: Sequence[int], further: Mapping[str, Metric] = MappingProxyType({})
) -> dict[str, Callable[[Ranking], Tensor]]:
    """What is counted in every ranking, by name, ``@k`` once for each k; further ones last."""
    counted: dict[str, Callable[[Ranking], Tensor]] = {}
    for name, entry in {**METRICS, **further}.items():
        if entry.of_queries is not None and name.endswith("@k"):
            counted |= {name[:-1] + str(k): partial(entry.of_queries, k=k) for k in recall_at}
        elif entry.of_queries is not None:
            counted[name] = entry.of_queries
    return counted


def check_metric(name: str, made: object) -> Metric:
    """The metric of a configuration, tried on a ranking of three queries of which one finds nothing among the first.

    Raises:
        ConfigError: it is no `Metric`, has a name that is taken, or does not give a finite float64 for each query.
    """
    promised = (
        "a metric is dml.Metric(of_queries, kind, higher_is_better), where of_queries takes a dml.Ranking, and k if "
        "its name ends with @k, and gives (Q,) float64; docs/extending.md has an example"
    )
    if not isinstance(made, Metric) or made.of_queries is None or made.kind not in ("share", "count"):
        raise ConfigError(f"metric.{name} gives {made!r}: {promised}")
    if _family(name) in METRICS:
        raise ConfigError(
            f"metric.{name} has a name that is taken; give another one than {', '.join(METRICS)}"
        )
    correct = torch.tensor([[True, False, True], [False, True, False], [False, False, True]])
    ranking = Ranking(correct, correct.cumsum(dim=1), torch.tensor([2, 1, 3]))
    try:
        (of_queries,) = list(counted_in_rankings([1], {name: made}).values())[-1:]
        values = of_queries(ranking)
    except Exception as error:
        raise ConfigError(
            f"metric.{name} fails with a ranking of three queries: {error!r}; {promised}"
        ) from error
    if not isinstance(values, Tensor) or values.shape != (3,) or values.dtype != torch.float64:
        shown = (
            f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        )
        raise ConfigError(f"metric.{name} gives {shown} for three queries: {promised}")
    if not values.isfinite().all():
        raise ConfigError(f"metric.{name} gives {values.tolist()}, which is not finite: {promised}")
    return made


def ranks_of(names: Iterable[str]) -> list[int]:
    """The k of the names that have one."""
    return list(dict.fromkeys(int(k[1]) for name in names if (k := re.search(r"@(\d+)$", name))))


def _family(name: str) -> str:
    """Of ``cartons/recall@10``, which is the same at a level of difficulty, ``recall@k``."""
    return re.sub(r"@\d+$", "@k", name.rpartition("/")[2])
