"""What a metric promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from dml.assembly import build_metrics
from dml.checks.attempt import Attempt, difference
from dml.config import TrainConfig
from dml.retrieval import Metric, Ranking, counted_in_rankings

__all__ = ["attempts"]

DEPTH = 12


def attempts(cfg: TrainConfig) -> Iterator[Attempt]:
    found: dict[str, Metric] = {}

    def is_one() -> str | None:
        found.update(build_metrics(cfg))
        return None

    yield Attempt("is a metric: dml.Metric, which gives a finite float64 for each query", is_one, vital=True)
    yield Attempt("a query alone gives what it gives among others", lambda: _alone(found))
    yield Attempt("what is found beyond the depth that is needed changes nothing", lambda: _deeper(found))
    yield Attempt("a share lies between 0 and 1", lambda: _shares(found))


def _ranking(depth: int) -> Ranking:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 6, (20,), generator=generator)
    order = torch.rand(20, DEPTH, generator=generator).argsort(dim=1)
    correct = (order < counts[:, None])[:, :depth]
    return Ranking(correct, correct.cumsum(dim=1), counts)


def _counted(metrics: Mapping[str, Metric]) -> dict[str, Callable[[Ranking], Tensor]]:
    own = counted_in_rankings([1, 4], metrics)
    return {name: own[name] for name in own.keys() - counted_in_rankings([1, 4]).keys()}


def _alone(metrics: Mapping[str, Metric]) -> str | None:
    ranking = _ranking(DEPTH)
    for name, of_queries in sorted(_counted(metrics).items()):
        alone = torch.cat([of_queries(Ranking(*(part[i : i + 1] for part in ranking))) for i in range(20)])
        if problem := difference(alone, of_queries(ranking), f"{name}, alone and among others", exact=True):
            return problem
    return None


def _deeper(metrics: Mapping[str, Metric]) -> str | None:
    shallow, deep = _ranking(6), _ranking(DEPTH)
    for name, of_queries in sorted(_counted(metrics).items()):
        what = f"{name}, with 6 and with {DEPTH} ranks where 5 are needed: count among the first R, or the first k"
        if problem := difference(of_queries(shallow), of_queries(deep), what, exact=True):
            return problem
    return None


def _shares(metrics: Mapping[str, Metric]) -> str | None:
    shares = {name for name, metric in metrics.items() if metric.kind == "share"}
    for name, of_queries in sorted(_counted({name: metrics[name] for name in shares}).items()):
        values = of_queries(_ranking(DEPTH))
        if values.min() < 0 or values.max() > 1:
            return f"{name} gives {values.min():.3g} to {values.max():.3g}: say kind='count', or scale it"
    return None
