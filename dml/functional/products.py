"""Products of the vectors of a batch, in the form that is fastest where they are computed.

The convolutions go to oneDNN, which on AMD processors takes half the time of the product in MKL.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_weight

__all__ = ["eager_cpu", "rows_by", "summed_products", "tokens"]


def eager_cpu(tensor: Tensor) -> bool:
    """Whether its values lie at hand: on a CPU, and not while a graph is compiled."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def tokens(features: Tensor) -> Tensor:
    """(B, D, N) as (B, N, D). On a CPU, copying features costs less than products of strided ones."""
    return features.mT.contiguous() if eager_cpu(features) else features.mT


def rows_by(matrix: Tensor, rows: Tensor) -> Tensor:
    """(K, D) and (B, N, D) -> (B, N, K): ``rows @ matrix.T``, for dense rows on a CPU as a 1×1 convolution."""
    if not _convolves(rows):
        return rows @ matrix.T
    return conv2d(_image(rows), matrix[:, :, None, None]).permute(0, 2, 3, 1)[0].contiguous()


def summed_products(left: Tensor, right: Tensor) -> Tensor:
    """(B, N, K) and (B, N, D) -> (K, D): Σ_b left_bᵀ right_b, as the gradient of that convolution."""
    if not (_convolves(left) and _convolves(right)):
        return torch.addbmm(left.new_empty(left.shape[2], right.shape[2]), left.mT, right, beta=0)
    kernel = (left.shape[2], right.shape[2], 1, 1)
    by_weight: Tensor = conv2d_weight(_image(right), kernel, _image(left))  # type: ignore[no-untyped-call]
    return by_weight[:, :, 0, 0]


def _convolves(rows: Tensor) -> bool:
    dense = rows.is_contiguous() and rows.dtype == torch.float32
    return dense and eager_cpu(rows) and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _image(rows: Tensor) -> Tensor:
    """(B, N, D) as one image (1, D, B, N) with channels last."""
    return rows.unsqueeze(0).permute(0, 3, 1, 2)
