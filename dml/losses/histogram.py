"""The histogram loss: similarities of positive pairs should lie above those of negative pairs."""

from __future__ import annotations

import torch
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor, nn

from dml.errors import InputError

__all__ = ["HistogramLoss"]


class HistogramLoss(nn.Module):
    """Estimated probability that a random negative pair is more similar than a random positive one.

        L = Σ_r h⁻_r Σ_{q ≤ r} h⁺_q

    with the shares h⁺ and h⁻ of positive and negative pairs at nodes that are 2 / num_bins apart in [-1, 1]; a cosine
    between two nodes counts to both, by nearness. The loss of pytorch-metric-learning stops at a cosine of 1, as of two
    equal images.

    Args:
        num_bins: intervals between the nodes.

    Shapes:
        vectors (B, D) unit, labels (B,) int64 -> scalar; 0 without a positive or without a negative pair. Pairs as in
        :class:`~dml.losses.C1Loss`.

    Raises:
        InputError: fewer than one interval.

    Source: Ustinova and Lempitsky, "Learning Deep Embeddings with Histogram Loss", NeurIPS 2016.
    """

    def __init__(self, *, num_bins: int) -> None:
        super().__init__()
        if num_bins < 1:
            raise InputError(f"loss.num_bins={num_bins}: give at least 1")
        self.num_bins = num_bins

    def forward(
        self,
        vectors: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        cosine = vectors @ (vectors if ref_emb is None else ref_emb).T
        anchors, positives, others, negatives = convert_to_pairs(indices_tuple, labels, ref_labels)
        if not len(anchors) or not len(others):
            return 0 * vectors.sum()
        positive, negative = (
            self._shares(cosine[pair]) for pair in ((anchors, positives), (others, negatives))
        )
        return torch.outer(negative, positive).tril().sum()  # (r, q) with q ≤ r

    def _shares(self, cosine: Tensor) -> Tensor:
        place = (cosine.clamp(-1, 1) + 1) * (self.num_bins / 2)
        lower = place.detach().floor().clamp(max=self.num_bins - 1).long()
        upper_part = place - lower
        shares = torch.zeros(self.num_bins + 1, dtype=cosine.dtype, device=cosine.device)
        shares = shares.index_add(0, lower, 1 - upper_part).index_add(0, lower + 1, upper_part)
        return shares / len(cosine)
