"""The objective, its memory, and the losses that pytorch-metric-learning lacks or has differently.

A metric loss is a module, called with unit vectors (B, D) and labels (B,), that gives a scalar. ``_takes_`` in its file
in configs/loss/ says what else it takes: ``tuples``, as ``indices_tuple``, so that a miner can go with it;
``references``, as ``ref_emb`` and ``ref_labels``, so that a memory can.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
