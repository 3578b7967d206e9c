"""The sharpness at which a pooling keeps a stated share of the locations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dml.functional.transport import calibrated_gate
from dml.modes import at_least_float32, full_precision

__all__ = ["HIGHEST", "LOWEST", "effective_share", "fit_sharpness"]

LOWEST, HIGHEST = 1e-3, 1e4
"""Where a sharpness is looked for: between average pooling and hard selection, for costs from 1e-3 to 1e3 apart."""

HALVINGS = 32
"""Of the interval of log γ, 16 long: more than float32 resolves."""


def effective_share(weights: Tensor) -> Tensor:
    """The share of the locations that count: how many alike would have the entropy of the weights, of all there are.

        share = exp(−Σ_i s_i log s_i) / N

    weights: s, (B, N), rows sum to 1. Returns (B,): 1 for equal weights, 1/N for a single location.
    """
    entropy: Tensor = torch.special.entr(weights).sum(1)
    return entropy.exp() / weights.shape[1]


def fit_sharpness(
    cost: Tensor, *, ratio: float | Tensor, share: float, per_image: bool = False
) -> tuple[Tensor, Tensor]:
    """The sharpness γ at which the weights of partial transport have a wanted effective share.

    The share falls as γ grows, from 1 to about the ratio μ, so γ is found by halving the interval of its logarithm.
    What is found has no gradient.

    Args:
        cost: (B, N, M).
        ratio: μ, as in `partial_transport`.
        share: wanted, in (μ, 1).
        per_image: a γ for each image, else one at which the mean over the images is as wanted.

    Returns:
        γ, (B,) or (), and the share that it gives, of the same shape. γ ends at LOWEST or HIGHEST where none gives
        the wanted share, as with costs that are all equal.
    """
    with torch.no_grad(), full_precision(cost):
        cost = at_least_float32(cost)
        low = cost.new_full((cost.shape[0],) if per_image else (), math.log(LOWEST))
        high = torch.full_like(low, math.log(HIGHEST))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            too_soft = _share(cost, middle.exp(), ratio) > share
            low, high = torch.where(too_soft, middle, low), torch.where(too_soft, high, middle)
        sharpness = ((low + high) / 2).exp()
        return sharpness, _share(cost, sharpness, ratio)


def _share(cost: Tensor, sharpness: Tensor, ratio: float | Tensor) -> Tensor:
    """The effective share of each image under its own sharpness, or the mean of all under one."""
    scores = (-sharpness.reshape(-1, 1, 1) * cost).logsumexp(2)
    gate = calibrated_gate(scores, ratio)
    shares = effective_share(gate / gate.sum(1, keepdim=True))
    return shares if sharpness.ndim else shares.mean()
