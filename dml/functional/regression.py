"""Ridge regression in its dual form: between the two halves of a batch, and of ones on local features."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cross_half_regression", "ridge_dual"]


def cross_half_regression(
    attributes: Tensor, targets: Tensor, halves: Tensor, *, ridge: float | Tensor
) -> Tensor:
    """Predict the targets of each half by a ridge regression that was fitted on the other half.

    With Z the attributes and Y the targets, for the rows of half A

        Ŷ_A = Z_A Z_Bᵀ (Z_B Z_Bᵀ + ε I)⁻¹ Y_B

    and the same with A and B exchanged. Both inverses are the blocks of one block-diagonal system, so a single
    Cholesky factorisation of the whole batch serves.

    Args:
        attributes: (B, M) float32 or float64.
        targets: (B, D), same type.
        halves: (B,) bool, True for half A.
        ridge: ε > 0, a number or a scalar tensor.

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


def ridge_dual(inputs: Tensor, *, ridge: float) -> Tensor:
    """Dual coefficients of the ridge regression that gives every column the response 1.

    With X the columns,

        α = (XᵀX + λ I)⁻¹ 1,    so that   X α = argmin_w ‖Xᵀw − 1‖² + λ‖w‖²

    The factor is taken without gradient, and one step of refinement α + A⁻¹(1 − A α) that autograd sees carries it:
    by the implicit function theorem the same first-order gradient, for one more solve and no (B, N, N) to keep.

    Args:
        inputs: X, (B, C, N) float32 or float64.
        ridge: λ > 0.

    Returns:
        α, (B, N).

    Source: Murray, Perronnin, "Generalized Max Pooling", CVPR 2014.
    """
    fixed = inputs.detach()
    identity = torch.eye(inputs.shape[2], dtype=inputs.dtype, device=inputs.device)
    factor, _ = torch.linalg.cholesky_ex(fixed.mT @ fixed + ridge * identity)
    ones = inputs.new_ones(inputs.shape[0], 1, inputs.shape[2])
    start = torch.cholesky_solve(
        ones.mT, factor
    ).mT  # (B, 1, N), rows: products with columns are slow on a CPU
    missing = ones - (start @ inputs.mT) @ inputs - ridge * start
    return (start + torch.cholesky_solve(missing.mT, factor).mT).squeeze(1)
