"""Whether the numbers that a miner was given let it list anything: the library checks none of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["lists_tuples"]


@torch.no_grad()
def lists_tuples(miner: nn.Module, embedding_dim: int) -> bool:
    """Whether a miner lists anything of a batch whose positives and negatives stand at all distances.

    Raises:
        Exception: whatever the miner raises.
    """
    vectors = on_a_circle(range(0, 360, 15), embedding_dim)
    return any(len(places) for places in miner(vectors, torch.arange(24) % 2))


def on_a_circle(degrees: Sequence[int], embedding_dim: int) -> Tensor:
    """Unit vectors at these angles, in the plane of the first two dimensions."""
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))
    plane = torch.stack([angles.cos(), angles.sin()], dim=1)[:, :embedding_dim]
    return F.pad(plane, (0, embedding_dim - plane.shape[1]))
