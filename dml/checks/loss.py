"""What a loss promises."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf, open_dict
from torch import Tensor, nn

from dml.assembly import build_part, declared
from dml.checks.attempt import Attempt, difference, normal, unreached
from dml.config import TrainConfig
from dml.contracts import Loss
from dml.randomness import torch_seed

__all__ = ["attempts"]

CLASSES = 8


def attempts(cfg: TrainConfig) -> Iterator[Attempt]:
    tests = _Tests(cfg)
    yield Attempt("is a loss: a module that takes vectors and labels", tests.is_one, vital=True)
    yield Attempt("a batch gives a finite scalar", tests.scalar, vital=True)
    yield Attempt("finite gradients reach the vectors and every parameter", tests.gradients)
    yield Attempt("images that are equal, and a class of one image, give finite gradients", tests.edges)
    yield Attempt("the same seed gives the same value", tests.again)
    yield Attempt("a state dict makes another one the same", tests.state)
    if declared(cfg, "tuples"):
        yield Attempt("takes the pairs of a miner, as its _takes_ says", tests.tuples)
    if declared(cfg, "references"):
        yield Attempt("is computed against a memory, as its _takes_ says", tests.references)


class _Tests:
    def __init__(self, cfg: TrainConfig) -> None:
        self.dim, self.node = cfg.embedding_dim, copy.deepcopy(cfg.loss)
        with open_dict(self.node):
            for key, value in {"num_classes": CLASSES, "embedding_size": cfg.embedding_dim}.items():
                if OmegaConf.is_missing(self.node, key):
                    self.node[key] = value
        self.labels = torch.arange(CLASSES).repeat_interleave(4)

    def make(self, seed: int = 0) -> nn.Module:
        with torch_seed(seed, "loss"):
            made: nn.Module = build_part(self.node, Loss, "loss")
        return made

    def vectors(self, seed: int = 0) -> Tensor:
        return F.normalize(normal(len(self.labels), self.dim, seed=seed)).requires_grad_()

    def is_one(self) -> str | None:
        self.make()
        return None

    def scalar(self) -> str | None:
        value = self.make()(self.vectors(), self.labels)
        if not isinstance(value, Tensor) or value.shape != ():
            shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            return f"a batch gives {shown}: a scalar tensor, such as the mean over the batch, is expected"
        return (
            None if value.isfinite() else f"a batch of {len(self.labels)} random vectors gives {value.item()}"
        )

    def gradients(self) -> str | None:
        made, vectors = self.make(), self.vectors()
        made(vectors, self.labels).backward()
        if vectors.grad is None or not vectors.grad.isfinite().all() or not vectors.grad.any():
            return "no finite gradient that is not 0 reaches the vectors"
        return unreached(made)

    def edges(self) -> str | None:
        lone, equal = self.labels.clone(), self.vectors().detach().clone()
        lone[:4] = torch.tensor([0, 1, 1, 1])
        equal[1] = equal[0]
        for vectors, labels in ((equal, self.labels), (self.vectors().detach(), lone)):
            vectors = vectors.requires_grad_()
            value = self.make()(vectors, labels)
            value.backward()
            if not value.isfinite() or vectors.grad is None or not vectors.grad.isfinite().all():
                return "a value or a gradient is not finite" + (
                    " where two images are equal" if vectors is equal else ""
                )
        return None

    def again(self) -> str | None:
        first, second = (self.make()(self.vectors(), self.labels) for _ in range(2))
        return difference(first, second, "two of the same seed", exact=True)

    def state(self) -> str | None:
        one, other = self.make(), self.make(seed=1)
        other.load_state_dict(one.state_dict())
        found, expected = (made(self.vectors(), self.labels) for made in (other, one))
        return difference(found, expected, "after load_state_dict", exact=True)

    def tuples(self) -> str | None:
        same = self.labels[:, None] == self.labels
        first, positive = (same & ~torch.eye(len(same), dtype=torch.bool)).nonzero(as_tuple=True)
        anchor, negative = (~same).nonzero(as_tuple=True)
        pairs = (first[:8], positive[:8], anchor[:8], negative[:8])
        vectors = self.vectors()
        value = self.make()(vectors, self.labels, pairs)
        value.backward()
        whole = self.make()(self.vectors(), self.labels)
        if torch.equal(value, whole):
            return "eight pairs give what all pairs give: it passes over the pairs of a miner"
        return None if value.isfinite() else f"eight pairs give {value.item()}"

    def references(self) -> str | None:
        values = [
            self.make()(
                self.vectors(), self.labels, ref_emb=self.vectors(seed).detach(), ref_labels=self.labels
            )
            for seed in (1, 2)
        ]
        if torch.equal(*values):
            return "two memories give the same value: it passes over them"
        return None if all(value.isfinite() for value in values) else "a memory gives NaN or infinity"
