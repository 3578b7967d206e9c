"""What a backbone promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from dml.assembly import NO_WEIGHTS, build_part
from dml.checks.attempt import Attempt, difference, normal, unreached
from dml.config import TrainConfig
from dml.contracts import Backbone, ChecksSize
from dml.randomness import torch_seed
from dml.types import Normalisation

__all__ = ["attempts"]


def attempts(cfg: TrainConfig) -> Iterator[Attempt]:
    tests = _Tests(cfg)
    size = cfg.transform.size
    yield Attempt("is a backbone: a module with out_channels and normalisation", tests.is_one, vital=True)
    yield Attempt(f"images of {size} × {size} give a map or tokens of out_channels", tests.shapes, vital=True)
    yield Attempt("an image alone gives what it gives in a batch", tests.alone)
    yield Attempt("finite gradients reach every parameter", tests.gradients)
    yield Attempt("the same seed gives the same weights, the same images the same result", tests.again)
    yield Attempt("a state dict makes another one the same", tests.state)
    yield Attempt("torch.export gives a program that computes the same", tests.exported)


class _Tests:
    def __init__(self, cfg: TrainConfig) -> None:
        self.size = cfg.transform.size
        without = {key: value for key, value in NO_WEIGHTS.items() if key in cfg.backbone}
        self.node = cast(DictConfig, OmegaConf.merge(cfg.backbone, without))

    def make(self, seed: int = 0) -> nn.Module:
        with torch_seed(seed, "backbone"):
            made: nn.Module = build_part(self.node, Backbone, "backbone")
        return made.eval()

    def images(self, batch: int = 2) -> Tensor:
        return normal(batch, 3, self.size, self.size)

    def is_one(self) -> str | None:
        made = self.make()
        if isinstance(made, ChecksSize):
            made.check_size(self.size)
        mean, std, _ = cast(Normalisation, made.normalisation)
        if len(mean) != 3 or len(std) != 3 or min(mean) < 0 or max(mean) > 255 or not min(std) > 0:
            return f"normalisation {mean}, {std}: three means of values from 0 to 255, and three deviations above 0"
        return None

    def shapes(self) -> str | None:
        made = self.make()
        features = made(self.images())
        if not isinstance(features, Tensor) or features.ndim not in (3, 4) or len(features) != 2:
            shown = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            return f"two images give {shown}: a map (2, C, H, W) or tokens (2, N, C) are expected"
        channels = features.shape[1 if features.ndim == 4 else 2]
        if channels != made.out_channels:
            return f"two images give {tuple(features.shape)}, and out_channels is {made.out_channels}, not {channels}"
        return None if features.isfinite().all() else "random images give NaN or infinity"

    def alone(self) -> str | None:
        made, images = self.make(), self.images()
        return difference(made(images[1:]), made(images)[1:], "alone and in a batch")

    def gradients(self) -> str | None:
        made = self.make()
        features = made(self.images())
        (features * normal(*features.shape, seed=1)).sum().backward()
        return unreached(made)

    def again(self) -> str | None:
        one, two, images = self.make(), self.make(), self.images()
        first = one(images)
        return difference(one(images), first, "the same images twice", exact=True) or difference(
            two(images), first, "two of the same seed", exact=True
        )

    def state(self) -> str | None:
        one, other, images = self.make(), self.make(seed=1), self.images()
        other.load_state_dict(one.state_dict())
        return difference(other(images), one(images), "after load_state_dict", exact=True)

    @torch.no_grad()
    def exported(self) -> str | None:
        made, images = self.make(), self.images()
        program = torch.export.export(made, (images,), strict=False).module()
        return difference(program(2 * images), made(2 * images), "exported and as it is")
