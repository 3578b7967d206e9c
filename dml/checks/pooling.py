"""What a pooling promises."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dml.assembly import build_part
from dml.checks.attempt import Attempt, difference, normal, unreached
from dml.config import TrainConfig
from dml.contracts import Pooling
from dml.randomness import torch_seed
from dml.types import Pooled

__all__ = ["attempts"]

SIZES = ((3, 4), (7, 2), (1, 5), (1, 1))


def attempts(cfg: TrainConfig) -> Iterator[Attempt]:
    tests = _Tests(cfg)
    yield Attempt(
        "is a pooling: a module with out_channels, pools_embedded and has_attributes",
        tests.is_one,
        vital=True,
    )
    yield Attempt("maps of any size give vectors and shares of the right shape", tests.maps)
    yield Attempt("so do tokens", tests.tokens)
    yield Attempt("an image alone gives what it gives in a batch", tests.alone)
    yield Attempt("finite gradients reach the features and every parameter", tests.gradients)
    yield Attempt("features of 0 and of 10,000 give finite results", tests.extremes)
    yield Attempt("the same seed gives the same weights, the same features the same result", tests.again)
    yield Attempt("a state dict makes another one the same", tests.state)
    yield Attempt("torch.export gives a program that computes the same", tests.exported)
    yield Attempt("the zero-shot loss is on only with attributes", tests.zero_shot)


class _Tests:
    def __init__(self, cfg: TrainConfig) -> None:
        self.cfg, self.channels = cfg, cfg.embedding_dim

    def make(self, seed: int = 0) -> nn.Module:
        with torch_seed(seed, "pooling"):
            made: nn.Module = build_part(self.cfg.pooling, Pooling, "pooling", in_channels=self.channels)
        return made.eval()

    def map(self, batch: int = 3, height: int = 3, width: int = 4) -> Tensor:
        return normal(batch, self.channels, height, width)

    def is_one(self) -> str | None:
        made = self.make()
        if made.pools_embedded and made.out_channels != self.channels:
            return (
                f"pools_embedded, and out_channels is {made.out_channels}: embedded locations have in_channels, here "
                f"{self.channels}, and so has what is pooled of them"
            )
        return None

    def maps(self) -> str | None:
        return next(filter(None, (self._shapes(self.map(3, *size), size) for size in SIZES)), None)

    def tokens(self) -> str | None:
        sizes = ((self.map(3, *size).flatten(2).mT.contiguous(), size) for size in SIZES)
        return next(filter(None, (self._shapes(*pair) for pair in sizes)), None)

    def _shapes(self, features: Tensor, size: tuple[int, int]) -> str | None:
        made, shown = self.make(), f"features {tuple(features.shape)}"
        pooled = made(features)
        if not isinstance(pooled, Pooled):
            return f"forward() gives {type(pooled).__name__}: give dml.Pooled(vectors, attributes, weights)"
        if pooled.vectors.shape != (3, made.out_channels):
            return (
                f"{shown} give vectors {tuple(pooled.vectors.shape)}, and out_channels is {made.out_channels}"
            )
        if (pooled.attributes is not None) != made.has_attributes:
            return f"has_attributes is {made.has_attributes}, and attributes are {type(pooled.attributes).__name__}"
        if pooled.weights is not None and pooled.weights.shape != (3, size[0] * size[1]):
            return f"{shown} give weights {tuple(pooled.weights.shape)}: one for each of {size[0] * size[1]} locations"
        for name, shares in (("attributes", pooled.attributes), ("weights", pooled.weights)):
            if shares is not None and (shares.min() < 0 or (shares.sum(1) - 1).abs().max() > 1e-4):
                return f"{name} are shares: none below 0, and the sum of each row 1"
        return None

    def alone(self) -> str | None:
        made, features = self.make(), self.map()
        expected = tuple(None if value is None else value[1:2] for value in made(features))
        return difference(tuple(made(features[1:2])), expected, "alone and in a batch")

    def gradients(self) -> str | None:
        made, features = self.make().train(), self.map().requires_grad_()
        pooled = made(features)
        given = [value for value in (pooled.vectors, pooled.attributes) if value is not None]
        torch.autograd.backward([(value * normal(*value.shape, seed=1)).sum() for value in given])
        if features.grad is None or not features.grad.isfinite().all():
            return "no finite gradient reaches the features"
        return unreached(made)

    def extremes(self) -> str | None:
        made = self.make()
        for scale in (0.0, 1e4):
            for value in made(scale * self.map()):
                if value is not None and not value.isfinite().all():
                    return f"features {scale:g} times a normal give NaN or infinity"
        return None

    def again(self) -> str | None:
        one, two, features = self.make(), self.make(), self.map()
        first = one(features)
        return difference(
            tuple(one(features)), tuple(first), "the same features twice", exact=True
        ) or difference(tuple(two(features)), tuple(first), "two of the same seed", exact=True)

    def state(self) -> str | None:
        one, other, features = self.make(), self.make(seed=1), self.map()
        other.load_state_dict(one.state_dict())
        return difference(tuple(other(features)), tuple(one(features)), "after load_state_dict", exact=True)

    @torch.no_grad()
    def exported(self) -> str | None:
        made, features = self.make(), self.map(2)
        program = torch.export.export(made, (features,), strict=False).module()
        return difference(tuple(program(2 * features)), tuple(made(2 * features)), "exported and as it is")

    def zero_shot(self) -> str | None:
        if self.make().has_attributes or not self.cfg.zero_shot.weight:
            return None
        return (
            "it has no attributes, and zero_shot.weight is not 0: begin the file with # @package _global_, as configs/"
            "pooling/gap.yaml does, and let it say zero_shot: {weight: 0.0}"
        )
