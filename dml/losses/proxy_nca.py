"""ProxyNCA as published: the own proxy is no rival of itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.errors import InputError

__all__ = ["ProxyNCALoss"]


class ProxyNCALoss(nn.Module):
    """``mean_i (d(x_i, p_yi) + log Σ_{c ≠ y_i} exp(−d(x_i, p_c)))`` with ``d = scale · ‖x − p‖²`` and unit proxies p.

    It falls below 0 where the own proxy is the nearest by far. Pytorch-metric-learning has the own proxy in the sum
    too, which makes it ProxyNCA++.

    Args:
        num_classes: K >= 2 proxies.
        embedding_size: D.
        scale: s > 0; the square of the length that vectors and proxies are given there, 3.

    Shapes:
        vectors (B, D) unit, labels (B,) int64 in [0, K) -> scalar.

    Raises:
        InputError: fewer than two classes, or a scale that is not above 0.

    Source: Movshovitz-Attias, Toshev, Leung, Ioffe, Singh, "No Fuss Distance Metric Learning using Proxies", ICCV 2017.
    """

    def __init__(self, num_classes: int, embedding_size: int, *, scale: float) -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(
                f"ProxyNCA needs the proxies of at least two classes, this set has {num_classes}"
            )
        if not scale > 0:
            raise InputError(f"loss.scale={scale} must be above 0; published with 9")
        self.proxies = nn.Parameter(torch.randn(num_classes, embedding_size))
        self.scale = scale

    def forward(self, vectors: Tensor, labels: Tensor) -> Tensor:
        cosine = vectors @ F.normalize(self.proxies, dim=1).T  # (B, K)
        distances = self.scale * (2 - 2 * cosine)  # of unit vectors
        own = F.one_hot(labels, len(self.proxies)).bool()
        rivals = (-distances).masked_fill(own, -torch.inf).logsumexp(dim=1)
        return (distances[own] + rivals).mean()
