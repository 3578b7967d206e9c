"""Backbones: normalised images in, a feature map or tokens out, the classifier removed.

Each is an nn.Module with `forward(images: (B, 3, H, W)) -> (B, C, H', W') or (B, N, C)` and two facts:
`out_channels`, the C of its output, and `normalisation`, what it wants done to images before.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
