"""Slot attention as a pooling: slots compete for the locations, round by round."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["SlotAttentionPooling"]


class SlotAttentionPooling(nn.Module):
    """The slots of an image, side by side, after some rounds of

        a_ij = softmax_j(⟨k(f_i), q(s_j)⟩ / √S),    u_j = Σ_i v(f_i) a_ij / Σ_k a_kj
        s_j ← GRU(u_j, s_j),    s_j ← s_j + MLP(s_j)

    with layer normalisation before q, k, v and the MLP. The softmax runs over slots: they share out each location
    among themselves. The start of every slot is learned. Published is a start drawn at random from one learned normal
    distribution, which makes slots exchangeable; an embedding has to be the same each time it is computed. With
    starts of their own, slots have an order, so they are concatenated: their mean would lose what each of them holds.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, K·S) in the type of the features, no attributes,
    and weights (B, N) in float32 or better: the mean over slots of the last a_ij / Σ_k a_kj.

    in_channels:     C, the channels of the features.
    num_slots:       K.
    slot_channels:   S.
    hidden_channels: width of the MLP.
    iterations:      rounds.

    Raises InputError if a setting is below 1 or the channels are not `in_channels`.
    Source: Locatello et al., "Object-Centric Learning with Slot Attention", NeurIPS 2020, algorithm 1.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(
        self, in_channels: int, *, num_slots: int, slot_channels: int, hidden_channels: int, iterations: int
    ) -> None:
        super().__init__()
        check_counts(
            num_slots=num_slots,
            slot_channels=slot_channels,
            hidden_channels=hidden_channels,
            iterations=iterations,
        )
        size = slot_channels
        self.in_channels, self.iterations = in_channels, iterations
        self.out_channels = num_slots * size
        self.start = nn.Parameter(torch.randn(num_slots, size))
        self.norm = nn.LayerNorm(in_channels)
        self.key = nn.Linear(in_channels, size, bias=False)
        self.value = nn.Linear(in_channels, size, bias=False)
        self.query = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, size, bias=False))
        self.cell = nn.GRUCell(size, size)
        self.mlp = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, size)
        )

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            tokens = self.norm(at_least_float32(as_locations(features, self.in_channels)).mT)  # (B, N, C)
            keys, values = self.key(tokens), self.value(tokens)  # (B, N, S)
            slots = self.start.expand(tokens.shape[0], -1, -1)  # (B, K, S)
            for _ in range(self.iterations):
                logits = keys @ self.query(slots).mT / math.sqrt(keys.shape[2])  # (B, N, K)
                # in logarithms: a slot that gets next to nothing of any location still has shares
                shares = logits.log_softmax(2).softmax(1)
                slots = self._updated(slots, shares.mT @ values)
        return Pooled(slots.flatten(1).to(features.dtype), None, shares.mean(2))

    def _updated(self, slots: Tensor, updates: Tensor) -> Tensor:
        """One step of the recurrent cell and of the MLP, each slot by itself; both (B, K, S)."""
        moved = self.cell(updates.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        refined: Tensor = moved + self.mlp(moved)
        return refined
