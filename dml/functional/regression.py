"""Ridge regression in its dual form, between the two halves of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cross_half_regression"]


def cross_half_regression(attributes: Tensor, targets: Tensor, halves: Tensor, *, ridge: float) -> Tensor:
    """Predict the targets of each half by a ridge regression that was fitted on the other half.

    With Z the attributes and Y the targets, for the rows of half A

        Ŷ_A = Z_A Z_Bᵀ (Z_B Z_Bᵀ + ε I)⁻¹ Y_B

    and the same with A and B exchanged. Both inverses are the blocks of one block-diagonal system, so a single
    Cholesky factorisation of the whole batch serves.

    Args:
        attributes: (B, M) float32 or float64.
        targets: (B, D), same type.
        halves: (B,) bool, True for half A.
        ridge: ε > 0.

    Returns:
        (B, D) predictions.

    Source: Gürbüz, Şener, Alatan, ICCV 2023, zero-shot prediction loss.
    """
    similarity = attributes @ attributes.T  # (B, B)
    same_half = halves[:, None] == halves[None, :]
    identity = torch.eye(len(halves), dtype=attributes.dtype, device=attributes.device)
    factor, _ = torch.linalg.cholesky_ex(
        similarity * same_half + ridge * identity
    )  # NaN goes through to the loss
    coefficients = torch.cholesky_solve(targets, factor)  # (B, D)
    return (similarity * ~same_half) @ coefficients
