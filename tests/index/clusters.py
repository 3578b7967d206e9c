"""Unit vectors in clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def clusters(
    classes: int, images: int, *, seed: int = 0, spread: float = 0.5, dim: int = 8
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors (n, dim) around a centre for each class, and their labels."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = np.repeat(np.arange(classes), images)
    vectors = centres[labels] + spread * rng.standard_normal((len(labels), dim)) / np.sqrt(dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels
