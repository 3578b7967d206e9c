"""Sets of embeddings to be searched, each hard in its own way, and their figures when all processes share the work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dml.retrieval import ranking, retrieval_metrics, within

__all__ = ["clustered", "coarse", "hard_sets", "search_by_small_blocks", "shared_figures"]


def clustered(
    count: int, classes: int, *, seed: int = 0, dim: int = 16, noise: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Unit vectors around a centre per class, in random order of class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    centres = torch.randn(classes, dim, generator=generator)
    return normalize(centres[labels] + noise * torch.randn(count, dim, generator=generator), dim=1), labels


def coarse(count: int, classes: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit vectors with four components of ±1/2: a few similarities only, so nearly everything ties."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (count, 4), generator=generator) * 2 - 1
    return signs / 2, torch.randint(classes, (count,), generator=generator)


def search_by_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search every set that is its own gallery by blocks that serve both sides, as only large ones are."""
    monkeypatch.setattr(ranking, "FEWEST", 1)
    monkeypatch.setattr(within, "TILE", 24)
    monkeypatch.setattr(within, "SAMPLES", (16, 64))


def hard_sets() -> dict[str, tuple[Tensor, ...]]:
    """Arguments of retrieval_metrics, by what is hard about them."""
    x, y = clustered(700, 60)
    uneven = torch.where(torch.arange(700) < 250, 0, y)  # one class has a third of the images
    lengths = torch.rand(700, 1, generator=torch.Generator().manual_seed(0)).add(0.5)
    return {
        "nearly everything ties": coarse(300, 40),
        "classes of very different sizes": (x, uneven),
        "vectors of any length": (x * lengths, y),
        "half precision": (x.bfloat16(), y),
        "queries and a gallery": (*clustered(50, 12, seed=1), *clustered(400, 12, seed=2)),
        "fewer queries than processes": (x[:2], y[:2], x[2:], y[2:]),
        "fewer queries than processes, in themselves": (x, torch.arange(700).clamp(min=1)),
        "queries with nothing to find": (x, torch.where(torch.arange(700) < 50, torch.arange(700) + 100, y)),
    }


def shared_figures() -> dict[str, dict[str, Any]]:
    """What every process of the group finds if each ranks its share, by set and way."""
    found = {}
    for way in ("faiss", "torch", "blocks"):
        with pytest.MonkeyPatch.context() as patch:
            if way == "blocks":
                search_by_small_blocks(patch)
                patch.setattr(ranking, "DEEP", 1)
            for name, sets in hard_sets().items():
                backend = "auto" if way == "blocks" else way
                metrics = retrieval_metrics(*sets, backend=backend, chunk_size=64, shared=True)
                found[f"{name}, {way}"] = dict(metrics)
    return found
