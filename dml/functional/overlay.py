"""Images coloured by a map of weights, around the weight that a location has in average pooling.

A map holds multiples of that weight: 1 is average pooling, red above, blue below, and full colour at a departure from
1 that the caller chooses. The image below is grey and pale, so that no colour of its own is taken for a weight.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ABOVE", "BELOW", "FULL", "departure", "tint"]

BELOW, ABOVE = (38, 98, 196), (214, 40, 30)  # RGB of full colour, also apart for the colour-blind
COVER = 0.75  # how much of the image full colour covers
PALE = 0.35  # how far the grey image is moved to white: colour shows on black too
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
FULL = 1.0  # departure from 1 that figures draw in full colour, all the same: blue counts nothing, red twice
FAINTEST = 0.02  # departures below are drawn pale: stretched to full colour, noise would look like a choice


def departure(maps: Tensor) -> float:
    """The largest distance of a map from 1, and at least 0.02."""
    return max(FAINTEST, float((maps - 1).abs().amax()))


def tint(images: Tensor, maps: Tensor, full: float) -> Tensor:
    """Images (B, 3, H, W) uint8 in grey, coloured by maps (B, h, w) of multiples of the uniform weight.

    full: the distance from 1 that is drawn in full colour. Each value of a map fills its rectangle of the image
    without smoothing. Returns (B, 3, H, W) uint8.
    """
    grey = (images.float() * images.new_tensor(GREY, dtype=torch.float32).view(3, 1, 1)).sum(1, keepdim=True)
    pale = grey + PALE * (255 - grey)
    values = F.interpolate(maps.float().unsqueeze(1), images.shape[-2:], mode="nearest-exact")
    strength = ((values - 1) / full).clamp(-1, 1)
    above, below = (images.new_tensor(rgb, dtype=torch.float32).view(3, 1, 1) for rgb in (ABOVE, BELOW))
    cover = COVER * strength.abs()
    coloured = (1 - cover) * pale + cover * torch.where(strength > 0, above, below)
    return coloured.round().to(torch.uint8)
