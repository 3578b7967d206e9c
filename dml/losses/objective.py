"""What training minimises: a metric loss, and the zero-shot loss beside it."""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from dml.errors import InputError
from dml.losses.cross_batch_memory import CrossBatchMemory
from dml.losses.zero_shot import ZeroShotLoss
from dml.modes import full_precision
from dml.types import Pooled

__all__ = ["Losses", "Objective"]


class Losses(NamedTuple):
    """The scalars of one step; None for a term that is off, or a memory that is empty."""

    total: Tensor
    metric: Tensor
    memory: Tensor | None = None
    zero_shot: Tensor | None = None

    def terms(self) -> dict[str, Tensor]:
        """The terms by name, the total last."""
        parts = {
            "metric": self.metric,
            "memory": self.memory,
            "zero_shot": self.zero_shot,
            "total": self.total,
        }
        return {name: value for name, value in parts.items() if value is not None}


class Objective(nn.Module):
    """``(1 − λ) · (L_metric + w · L_memory) + λ · L_zero-shot``, in float32 also under autocast.

    Args:
        metric: called with unit vectors (B, D) and labels (B,), gives a scalar; its parameters are the proxies.
        miner: called likewise, picks the pairs or triplets, of the batch and against the memory, that the metric loss
            is computed on; None leaves all of them.
        zero_shot: None switches it off.
        zero_shot_weight: λ in [0, 1); 0 exactly if zero_shot is None.
        memory: past embeddings, against which the metric loss is computed once more; None switches it off.
        memory_weight: w > 0.

    Raises:
        InputError: a pooling without attributes under a zero-shot loss.
    """

    def __init__(
        self,
        metric: nn.Module,
        zero_shot: ZeroShotLoss | None,
        *,
        zero_shot_weight: float,
        miner: nn.Module | None = None,
        memory: CrossBatchMemory | None = None,
        memory_weight: float = 1.0,
    ) -> None:
        super().__init__()
        assert 0 <= zero_shot_weight < 1 and memory_weight > 0
        assert (zero_shot is None) == (zero_shot_weight == 0)
        self.metric, self.zero_shot, self.zero_shot_weight = metric, zero_shot, zero_shot_weight
        self.miner = miner
        self.memory, self.memory_weight = memory, memory_weight

    def forward(self, pooled: Pooled, labels: Tensor, images: Tensor | None = None) -> Losses:
        """The losses of a batch; images: (B,) their rows in the data set, for a memory that leaves their own out."""
        with full_precision(pooled.vectors):
            vectors = pooled.vectors.float()
            pairs = metric = self._mined(vectors, labels)
            memory = self._against_memory(vectors, labels, images)
            if memory is not None:
                pairs = metric + self.memory_weight * memory
            if self.zero_shot is None:
                return Losses(pairs, metric, memory)
            if pooled.attributes is None:
                raise InputError(
                    "the zero-shot loss reads attributes, and this pooling has none: "
                    "choose pooling=gsp, or switch the loss off with zero_shot.weight=0"
                )
            zero_shot: Tensor = self.zero_shot(pooled.attributes, labels)
            total = (1 - self.zero_shot_weight) * pairs + self.zero_shot_weight * zero_shot
            return Losses(total, metric, memory, zero_shot)

    def remember(self, pooled: Pooled, labels: Tensor, images: Tensor | None = None) -> None:
        """Hand the batch to the memory, if there is one; to be called after the backward pass."""
        if self.memory is not None:
            self.memory.remember(pooled.vectors, labels, images)

    def _against_memory(self, vectors: Tensor, labels: Tensor, images: Tensor | None) -> Tensor | None:
        if self.memory is None or not self.memory.fill:
            return None
        past, past_labels = self.memory.references(images)
        return self._mined(vectors, labels, ref_emb=past, ref_labels=past_labels) if len(past) else None

    def _mined(self, vectors: Tensor, labels: Tensor, **references: Tensor) -> Tensor:
        if self.miner is None:
            return cast(Tensor, self.metric(vectors, labels, **references))
        mined = self.miner(vectors, labels, **references)
        return cast(Tensor, self.metric(vectors, labels, mined, **references))
