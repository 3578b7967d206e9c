"""Embeddings in the plane, with some images to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dml.randomness import numpy_generator

__all__ = ["SIDE", "Plane", "chosen_images", "principal_plane", "shown_points", "umap_plane"]

SIDE, MARGIN = 400, 8
MOST_POINTS = 6000
CLASSES, IMAGES = 40, 8  # that are drawn with their images
UMAP_SEED = 0


@dataclass(frozen=True)
class Plane:
    """points: (n, 2), of all images, in a square of SIDE; note: how they came there."""

    name: str
    points: NDArray[np.float64]
    note: str


def principal_plane(vectors: NDArray[np.float32]) -> Plane:
    """The two directions in which the vectors (n, D) vary most; the larger entry of each points up or right."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    leading = directions[:, [-1, -2]]
    leading = leading * np.sign(leading[np.abs(leading).argmax(0), [0, 1]])
    share = variances[[-1, -2]].sum() / max(variances.sum(), np.finfo(np.float64).tiny)
    note = f"The two directions of largest variance; they hold {share:.0%} of it, so much that lies apart looks close."
    return Plane("PCA", _fit(centred @ leading), note)


def umap_plane(vectors: NDArray[np.float32]) -> Plane | None:
    """A plane that keeps neighbours together, by UMAP; None if it is not installed."""
    try:
        from umap import UMAP
    except ImportError:
        return None
    points = UMAP(metric="cosine", random_state=UMAP_SEED, n_jobs=1).fit_transform(vectors)
    note = "Neighbours are kept together; distances between groups, and sizes of groups, mean nothing."
    return Plane("UMAP", _fit(np.asarray(points, dtype=np.float64)), note)


def shown_points(count: int) -> NDArray[np.int64]:
    """Rows at equal distances, at most so many as a page can hold."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(np.int64))


def chosen_images(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of some images of some classes, drawn by a fixed seed, class after class."""
    generator = numpy_generator(0, "plane")
    classes = np.unique(labels)
    chosen = np.sort(generator.choice(classes, min(CLASSES, len(classes)), replace=False))
    rows = [generator.permutation(np.flatnonzero(labels == label))[:IMAGES] for label in chosen]
    return np.concatenate(rows)


def _fit(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Both axes to one scale, in the middle of the square; y grows downwards in an image."""
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 2 * MARGIN) / max(float((high - low).max()), np.finfo(np.float64).tiny)
    placed: NDArray[np.float64] = (points - (low + high) / 2) * scale * [1, -1] + SIDE / 2
    return placed
