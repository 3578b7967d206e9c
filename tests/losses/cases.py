"""Batches, and losses as their files in configs/ describe them, for the tests of all losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from dml.config import build

CONFIGS = Path(__file__).parents[2] / "configs"
LABELS = [0, 1, 0, 2, 1, 0, 3, 2]  # three of a class, two, and an image alone
DIM = 5


def names(group: str) -> list[str]:
    found = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
    assert found, f"no files in configs/{group}"
    return found


def configured(group: str, name: str, *, num_classes: int = 4, dim: int = DIM) -> nn.Module:
    """What ``configs/GROUP/NAME.yaml`` describes, in float64, its parameters random."""
    node = OmegaConf.load(CONFIGS / group / f"{name}.yaml")
    cfg = OmegaConf.create({"embedding_dim": dim, group: node})
    for key, value in {"num_classes": num_classes, "embedding_size": dim}.items():
        if OmegaConf.is_missing(cfg[group], key):
            cfg[group][key] = value
    with torch.random.fork_rng():
        torch.manual_seed(7)
        built: nn.Module = build(cfg[group])
    return built.double()


def takes(name: str) -> set[str]:
    """What the file of a loss says that it takes."""
    return set(OmegaConf.load(CONFIGS / "loss" / f"{name}.yaml")["_takes_"])


def unit(count: int, seed: int, *, dim: int = DIM) -> Tensor:
    """Unit vectors that lean to one side, so that some are near each other, in float64."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    return F.normalize(points + 0.7, dim=1)


class Pairs:
    """For each image of a batch, the places of its positives and of its negatives among the references.

    ``same``: the references are the batch, and no image is its own positive.
    """

    def __init__(self, labels: Sequence[int], others: Sequence[int], *, same: bool) -> None:
        self.size = len(labels)
        self.positives = [
            [j for j, other in enumerate(others) if other == label and not (same and i == j)]
            for i, label in enumerate(labels)
        ]
        self.negatives = [[j for j, other in enumerate(others) if other != label] for label in labels]

    def positive_pairs(self) -> Iterator[tuple[int, int]]:
        return ((i, j) for i in range(self.size) for j in self.positives[i])

    def negative_pairs(self) -> Iterator[tuple[int, int]]:
        return ((i, j) for i in range(self.size) for j in self.negatives[i])

    def triplets(self) -> Iterator[tuple[int, int, int]]:
        return ((i, p, n) for i, p in self.positive_pairs() for n in self.negatives[i])


def mean(costs: Sequence[Tensor]) -> Tensor:
    """The mean, 0 of nothing."""
    return torch.stack(list(costs)).mean() if costs else torch.zeros((), dtype=torch.float64)


def mean_of_active(costs: Sequence[Tensor]) -> Tensor:
    """The mean over what costs anything."""
    return mean([cost for cost in costs if cost > 0])


def log_sum(terms: Sequence[Tensor]) -> Tensor:
    """log(1 + Σ exp)."""
    return torch.log(1 + sum((term.exp() for term in terms), torch.zeros((), dtype=torch.float64)))
