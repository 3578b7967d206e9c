"""Figures by class, and intervals by drawing classes anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dml.randomness import numpy_generator

__all__ = ["ClassFigures", "Interval", "class_figures", "interval_over_classes"]

RESAMPLES = 2000
AT_ONCE = 2**22  # draws of a class held in memory at a time
COVERED = (2.5, 97.5)  # per cent


class Interval(NamedTuple):
    """A mean and the 95 % interval around it, as fractions; NaN ends where a single class says nothing of others."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassFigures:
    """Of the classes that have a query with something to find; (K,) each.

    labels: the number of the class; queries: how many it has; recall, average_precision: their means.
    """

    labels: NDArray[np.int64]
    queries: NDArray[np.int64]
    recall: NDArray[np.float64]
    average_precision: NDArray[np.float64]


def class_figures(
    labels: NDArray[np.int64], recall: NDArray[np.float64], average_precision: NDArray[np.float64]
) -> ClassFigures:
    """Means by class of what each query scored, (Q,) each; NaN for a query that counts nowhere."""
    known = ~np.isnan(average_precision)
    count = np.bincount(labels[known])
    present = np.flatnonzero(count)
    means = (np.bincount(labels[known], values[known])[present] for values in (recall, average_precision))
    return ClassFigures(present, count[present], *(total / count[present] for total in means))


def interval_over_classes(
    values: NDArray[np.float64], labels: NDArray[np.int64], *, seed: int = 0
) -> Interval:
    """The mean of what each query scored, with a 95 % bootstrap interval over classes.

    Images of a class are alike, so classes are what is drawn anew: each resample has as many classes as the set, drawn
    with replacement, with all queries of each; the gallery stays. The interval holds the middle 95 % of the means.

    Args:
        values, labels: (Q,) score and class of each query; NaN scores count nowhere.
    Source: Efron 1979; with groups as what is drawn, Field and Welsh 2007.
    """
    known = ~np.isnan(values)
    counts = np.bincount(labels[known])
    sums = np.bincount(labels[known], values[known])[counts > 0]
    counts = counts[counts > 0]
    mean = float(sums.sum() / counts.sum())
    classes = len(counts)
    if classes < 2:
        return Interval(mean, float("nan"), float("nan"))
    generator = numpy_generator(seed, "bootstrap")
    step = max(1, AT_ONCE // classes)
    means: list[float] = []
    while len(means) < RESAMPLES:
        size = min(step, RESAMPLES - len(means))
        drawn = generator.multinomial(classes, np.full(classes, 1 / classes), size=size)
        means += ((drawn @ sums) / (drawn @ counts)).tolist()
    low, high = np.percentile(means, COVERED)
    return Interval(mean, float(low), float(high))
