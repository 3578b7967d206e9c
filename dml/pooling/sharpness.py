"""The sharpness of generalized sum pooling: a number, or what fits the features."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from dml.errors import InputError
from dml.functional.sharpness import fit_sharpness

__all__ = ["RULES", "Sharpness"]

log = logging.getLogger(__name__)

RULES = ("auto", "learned", "per_image", "standardised")
START = 5.0  # until it is fitted: the published number
REACHED = 0.02  # by how much a share may miss what was wanted before it is worth a warning

Cost = Callable[[], Tensor]  # gives (B, N, M)


class Sharpness(nn.Module):
    """γ as a number, or by a rule that gives the weights a stated effective share of the locations.

    A number means something only relative to how far the costs spread, which depends on the backbone.

    Args:
        rule: a number above 0; or
            "auto": fitted once, where the prototypes start, as the mean over the images there, and kept;
            "learned": starts like that, and is trained as a logarithm;
            "per_image": fitted to each image, in training and in use, without gradient;
            "standardised": like "auto", in units of the standard deviation of the costs of each image.
        share: the effective share that is wanted, in (μ, 1); a number does not look at it.
        ratio: μ, below which no share falls.

    Raises:
        InputError: no such rule, a number or a share out of range.
    """

    def __init__(self, rule: float | str, *, share: float, ratio: float) -> None:
        super().__init__()
        self.rule, self.share = rule, share
        if not isinstance(rule, str):
            if not 0 < rule < math.inf:
                raise InputError(
                    f"pooling.sharpness is {rule}; expected a finite number above 0. The paper uses 5 and 0.5; "
                    f"or one of {', '.join(RULES)}."
                )
            return
        if rule not in RULES:
            raise InputError(f"pooling.sharpness={rule!r}; accepted: a number above 0, {', '.join(RULES)}")
        if not ratio < share < 1:
            raise InputError(
                f"pooling.effective_share={share} must lie between pooling.transport_ratio={ratio}, which is hard "
                "selection, and 1, which is average pooling"
            )
        if rule == "learned":
            self.logarithm = nn.Parameter(torch.tensor(math.log(START)))
        elif rule != "per_image":
            self.register_buffer("fitted", torch.tensor(START))

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has something to do."""
        return self.rule in ("auto", "learned", "standardised")

    def forward(self, cost: Cost, ratio: float | Tensor) -> float | Tensor:
        """γ for a batch: a number, a tensor (), or (B,) where each image has its own.

        cost: asked only by a rule that looks at each image.
        """
        if self.rule == "learned":
            return self.logarithm.exp()
        if self.rule == "per_image":
            with torch.no_grad():
                return fit_sharpness(cost(), ratio=ratio, share=self.share, per_image=True)[0]
        if self.rule == "standardised":
            with torch.no_grad():
                return cast(Tensor, self.fitted) / _spread(cost())
        return cast(Tensor, self.fitted) if self.rule == "auto" else float(self.rule)

    @torch.no_grad()
    def fit(self, cost: Tensor, ratio: float | Tensor) -> None:
        """Choose γ on the costs (B, N, M) of the first batches, and write it in place."""
        if cost.shape[1] == 1:
            return  # a single location has all of the weight
        if self.rule == "standardised":
            cost = cost / _spread(cost).reshape(-1, 1, 1)
        sharpness, share = fit_sharpness(cost, ratio=ratio, share=self.share)
        if self.rule == "learned":
            self.logarithm.copy_(sharpness.log())
        else:
            cast(Tensor, self.fitted).copy_(sharpness)
        log.info("sharpness %.4g: effective share of the locations %.3f", sharpness.item(), share.item())
        if abs(share.item() - self.share) > REACHED:
            warnings.warn(
                f"no pooling.sharpness gives the first batches pooling.effective_share={self.share}; "
                f"{sharpness.item():.4g} gives {share.item():.2f}: the locations of an image are too much alike, or "
                "too few. Take a finer map, by a larger transform.size, or pooling=gap",
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        return f"{self.rule}"


def _spread(cost: Tensor) -> Tensor:
    """The standard deviation of the costs of each image, (B,); 1 where they are all equal."""
    spread = cost.flatten(1).std(1)
    return torch.where(spread > 0, spread, 1.0)
