"""Balanced entropic optimal transport by a fixed number of Sinkhorn iterations, in the log domain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dml.errors import InputError
from dml.modes import at_least_float32, full_precision

__all__ = ["balanced_transport"]


def balanced_transport(cost: Tensor, *, sharpness: float, iterations: int) -> Tensor:
    """The plan between uniform masses that is cheap and spread out.

        min over π ≥ 0   Σ c_ij π_ij + (1/γ)·Σ π_ij log π_ij,    Σ_j π_ij = 1/N,   Σ_i π_ij = 1/M

    It has the form π_ij = exp(u_i + v_j − γ c_ij); an iteration solves for all u, then for all v:

        u_i = −log N − logsumexp_j(v_j − γ c_ij),    v_j = −log M − logsumexp_i(u_i − γ c_ij)

    so that the second marginal holds to rounding after any number of iterations, the first in the limit.

    cost: (B, N, M); sharpness: γ > 0, the inverse of the entropic regularisation; iterations: 1 or more.
    Returns (B, N, M) in float32 or better, inside autocast too; gradients are those of the iterations as taken.
    Raises InputError on a cost of another shape and on settings out of range.
    Source: Cuturi, "Sinkhorn Distances", 2013; Peyré and Cuturi, "Computational Optimal Transport", 2019, section 4.4.
    """
    if cost.ndim != 3 or 0 in cost.shape[1:]:
        raise InputError(
            f"cost has shape {tuple(cost.shape)}; expected (batch, locations, references) with one or more of both"
        )
    if not 0 < sharpness < math.inf:
        raise InputError(f"sharpness={sharpness}: give a finite number above 0, one over the regularisation")
    if iterations < 1:
        raise InputError(f"iterations={iterations}: give 1 or more; each is a round over both marginals")
    with full_precision(cost):
        logits = -sharpness * at_least_float32(cost)
        v = logits.new_zeros(1, 1, logits.shape[2])
        for _ in range(iterations):
            by_row = logits - (logits + v).logsumexp(2, keepdim=True)  # without log N: v takes it back
            v = -math.log(logits.shape[2]) - by_row.logsumexp(1, keepdim=True)
        return torch.exp(by_row + v)
