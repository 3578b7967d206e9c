"""What training minimises: a metric loss, and the zero-shot loss beside it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dml.losses.zero_shot import ZeroShotLoss
from dml.types import Pooled

__all__ = ["Losses", "Objective"]


class Losses(NamedTuple):
    """The scalars of one step; ``zero_shot`` is None where that loss is off."""

    total: Tensor
    metric: Tensor
    zero_shot: Tensor | None

    def terms(self) -> dict[str, Tensor]:
        """The terms by name, the total last."""
        parts = {"metric": self.metric, "zero_shot": self.zero_shot, "total": self.total}
        return {name: value for name, value in parts.items() if value is not None}


class Objective(nn.Module):
    """``(1 − λ) · L_metric + λ · L_zero-shot``, in float32 also under autocast.

    Args:
        metric: called with unit vectors (B, D) and labels (B,), gives a scalar; its parameters are the proxies.
        zero_shot: None switches it off.
        zero_shot_weight: λ in [0, 1); 0 exactly if zero_shot is None.

    Raises:
        ValueError: a weight out of range, or a pooling without attributes under a zero-shot loss.
    """

    def __init__(self, metric: nn.Module, zero_shot: ZeroShotLoss | None, *, zero_shot_weight: float) -> None:
        super().__init__()
        if not 0 <= zero_shot_weight < 1:
            raise ValueError(
                f"zero_shot.weight={zero_shot_weight} must lie in [0, 1); 0 switches the loss off"
            )
        assert (zero_shot is None) == (zero_shot_weight == 0)
        self.metric, self.zero_shot, self.zero_shot_weight = metric, zero_shot, zero_shot_weight

    def forward(self, pooled: Pooled, labels: Tensor) -> Losses:
        with torch.autocast(pooled.vectors.device.type, enabled=False):
            metric: Tensor = self.metric(pooled.vectors.float(), labels)
            if self.zero_shot is None:
                return Losses(metric, metric, None)
            if pooled.attributes is None:
                raise ValueError(
                    "the zero-shot loss reads attributes, and this pooling has none: "
                    "choose pooling=gsp, or switch the loss off with zero_shot.weight=0"
                )
            zero_shot: Tensor = self.zero_shot(pooled.attributes, labels)
            total = (1 - self.zero_shot_weight) * metric + self.zero_shot_weight * zero_shot
            return Losses(total, metric, zero_shot)
