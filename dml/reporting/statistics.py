"""Means with intervals, and differences over paired seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Estimate", "estimate", "paired_difference", "percent"]


@dataclass(frozen=True)
class Estimate:
    """A mean with the half width of its 95 % interval (Student's t); NaN for a single value."""

    mean: float
    half_width: float
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of independent values."""
    count = len(values)
    if count < 2:
        return Estimate(float(np.mean(values)), float("nan"), count)
    half_width = stats.t.ppf(0.975, count - 1) * stats.sem(values)
    return Estimate(float(np.mean(values)), float(half_width), count)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Mean and 95 % interval of the differences over the seeds that both have; None if they share no seed."""
    differences = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return estimate(differences) if differences else None


def percent(value: Estimate, *, signed: bool = False, scale: float = 100) -> str:
    """An estimate of a fraction in per cent, ``mean ± half width``; the mean alone for a single value.

    scale: 1 for what is no fraction.
    """
    mean = f"{scale * value.mean:{'+' if signed else ''}.2f}"
    return mean if math.isnan(value.half_width) else f"{mean} ± {scale * value.half_width:.2f}"
