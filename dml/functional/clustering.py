"""Points that stand for many: k-means, reproducible from a generator, and greedy k-center."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dml.errors import InputError

__all__ = ["greedy_k_center", "k_means"]


def k_means(points: Tensor, count: int, *, iterations: int, generator: torch.Generator) -> Tensor:
    """Centres of a k-means++ seeding followed by Lloyd's rounds; the same generator state gives the same centres.

    points: (n, D). Returns (count, D), fewer rows if there are fewer distinct points.
    Raises InputError on points that are not finite.
    Source: Arthur and Vassilvitskii 2007; Lloyd 1982.
    """
    _check_finite(points)
    centres = _seed(points, count, generator)
    for _ in range(iterations):
        centres = _lloyd(points, centres)
    return centres


def greedy_k_center(points: Tensor, count: int) -> Tensor:
    """Those points that lie farthest from all before them, one after the other; the first ``count`` count as before.

    points: (n, D). Returns (count, D), fewer rows once every point coincides with one before.
    Raises InputError on points that are not finite.
    Source: Gonzalez 1985; with the first rows as the covered set in Gürbüz, Şener, Alatan, ICCV 2023.
    """
    _check_finite(points)
    # by differences: by products, as else for many points, a point is not at distance 0 from itself
    distances = torch.cdist(points, points[:count], compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.amin(1)  # (n,)
    rows: list[int] = []
    while len(rows) < count and bool(nearest.amax() > 0):
        rows.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, torch.linalg.vector_norm(points - points[rows[-1]], dim=1))
    return points[rows]


def _check_finite(points: Tensor) -> None:
    if not points.isfinite().all():
        raise InputError(
            "features hold values that are not finite; prototypes need finite local features. Check the "
            "input normalisation and the backbone weights."
        )


def _seed(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++: draw rows with probability proportional to the squared distance to those drawn before."""
    odds = torch.ones(len(points), dtype=torch.float64)
    rows: list[int] = []
    while len(rows) < count and odds.sum() > 0:
        steps = odds.cumsum(0)
        draw = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).cpu()
        rows.append(int(torch.searchsorted(steps, draw * steps[-1], right=True).clamp(max=len(points) - 1)))
        squared = (points - points[rows[-1]]).square().sum(1).double().cpu()
        odds = squared if len(rows) == 1 else torch.minimum(odds, squared)
    return points[rows]


def _lloyd(points: Tensor, centres: Tensor) -> Tensor:
    """Move each centre to the mean of the points nearest to it; one without points stays."""
    scores = points @ centres.T - centres.square().sum(1) / 2
    members = nn.functional.one_hot(scores.argmax(1), len(centres)).to(points)  # (n, count)
    sizes = members.sum(0).unsqueeze(1)
    return torch.where(sizes > 0, members.T @ points / sizes.clamp_min(1), centres)
