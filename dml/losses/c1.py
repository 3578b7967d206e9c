"""The contrastive loss on cosines whose sum, not mean, is taken: pairs do not share a fixed amount of gradient."""

from __future__ import annotations

import torch.nn.functional as F
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs
from torch import Tensor, nn

from dml.errors import InputError

__all__ = ["C1Loss"]


class C1Loss(nn.Module):
    """``(Σ_positives (1 − s) + Σ_negatives (s − margin)₊) / B`` over ordered pairs with cosine s.

    Pytorch-metric-learning divides by numbers of pairs instead, so it has no such loss; the call is the same as there.

    Args:
        margin: cosine below which a negative pair costs nothing; published with 0.5.

    Shapes:
        vectors (B, D) unit, labels (B,) int64 -> scalar. The pairs are those of the batch, no image with itself, or
        those that ``indices_tuple`` of a miner lists. With ref_emb (R, D) and ref_labels (R,), such as those of
        a memory, they lead from the batch to the references.

    Raises:
        InputError: a margin outside [-1, 1).

    Source: Gürbüz, Can, Alatan, "Deep Metric Learning with Chance Constraints", WACV 2024, supplement.
    """

    def __init__(self, *, margin: float) -> None:
        super().__init__()
        if not -1 <= margin < 1:
            raise InputError(f"loss.margin={margin}: a cosine in [-1, 1) is needed; published with 0.5")
        self.margin = margin

    def forward(
        self,
        vectors: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        references = vectors if ref_emb is None else ref_emb
        anchors, positives, others, negatives = convert_to_pairs(indices_tuple, labels, ref_labels)
        cosine = vectors @ references.T  # (B, R)
        attraction = (1 - cosine[anchors, positives]).sum()
        repulsion = F.relu(cosine[others, negatives] - self.margin).sum()
        return (attraction + repulsion) / len(vectors)
