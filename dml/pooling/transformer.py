"""Pooling by multihead attention: a learned query looks at all locations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dml.modes import at_least_float32, full_precision
from dml.pooling.counts import check_counts
from dml.pooling.gap import as_locations
from dml.types import Pooled

__all__ = ["TransformerPooling"]


class TransformerPooling(nn.Module):
    """One block of cross-attention from a learned seed s to the locations, as in the Set Transformer.

        a_ih = softmax_i(⟨q_h, k_h(f_i)⟩ / √d),    g = norm(s + O [Σ_i a_ih v_h(f_i)]_h)
        vector = norm(g + relu(W g + b))

    With one seed for all images the queries q = Q s and the residual s are two constants. They are learned apart, and s
    starts at 0: as published, random, it would drown features on a small scale, and all images would start out alike.
    Every head has d channels, chosen apart from C, so that the cost does not grow with C²; the paper splits C among
    the heads. Its row-wise network on the locations, which the backbone ends with anyway, is left out, as in the
    authors' code.

    Takes a map (B, C, H, W) or tokens (B, N, C); returns vectors (B, C) in the type of the features, no attributes,
    and the weights mean_h a_ih, (B, N), in float32 or better.

    in_channels:   C, the channels of the features.
    num_heads:     heads, each with an attention of its own.
    head_channels: d.

    Raises InputError if a setting is below 1 or the channels are not `in_channels`.
    Source: Lee et al., "Set Transformer", ICML 2019: its PMA with one seed.
    """

    pools_embedded = False
    has_attributes = False

    def __init__(self, in_channels: int, *, num_heads: int, head_channels: int) -> None:
        super().__init__()
        check_counts(num_heads=num_heads, head_channels=head_channels)
        self.out_channels = in_channels
        inner = num_heads * head_channels
        self.query = nn.Parameter(torch.randn(num_heads, head_channels))
        self.key = nn.Linear(in_channels, inner, bias=False)  # the softmax would cancel a bias
        self.value = nn.Linear(in_channels, inner, bias=False)  # a bias would be part of s
        self.out = nn.Linear(inner, in_channels)  # its bias is s
        nn.init.zeros_(self.out.bias)
        self.first_norm = nn.LayerNorm(in_channels)
        self.feed_forward = nn.Sequential(nn.Linear(in_channels, in_channels), nn.ReLU())
        self.last_norm = nn.LayerNorm(in_channels)

    def forward(self, features: Tensor) -> Pooled:
        with full_precision(features):
            tokens = at_least_float32(as_locations(features, self.out_channels)).mT  # (B, N, C)
            keys, values = (layer(tokens).unflatten(2, self.query.shape) for layer in (self.key, self.value))
            logits = torch.einsum("hd,bnhd->bnh", self.query, keys) / math.sqrt(self.query.shape[1])
            attention = logits.softmax(1)
            attended = torch.einsum("bnh,bnhd->bhd", attention, values).flatten(1)
            hidden = self.first_norm(self.out(attended))
            vectors = self.last_norm(hidden + self.feed_forward(hidden))
        return Pooled(vectors.to(features.dtype), None, attention.mean(2))
