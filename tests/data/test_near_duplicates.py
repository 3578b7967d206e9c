"""Images of the gallery that are nearly those of a query."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dml.data import Records
from dml.data.near_duplicates import near_duplicates


def smooth(seed: int) -> NDArray[np.uint8]:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))


def again(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image brighter, cut a little, and as a poor JPEG."""
    buffer = io.BytesIO()
    brighter = (image.astype(float) * 0.8 + 40).clip(0, 255).astype(np.uint8)
    Image.fromarray(brighter[1:, 1:]).resize((64, 64)).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer))


def a_set() -> Records:
    """Queries 0 to 9; the gallery repeats the queries 3 and 7 and has one image of a single grey."""
    images = np.stack([*map(smooth, range(20)), again(smooth(3)), again(smooth(7)), smooth(0) * 0])
    rows = np.arange(len(images))
    files = tuple(map(str, rows))
    return Records(images, rows, rows % 2, ("a", "b"), files, rows < 10)


def test_copies_that_were_changed_a_little_are_found_and_nothing_else() -> None:
    assert near_duplicates(a_set()) == [(3, 20), (7, 21)]


def test_a_set_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="between queries and a gallery, and this set has none"):
        near_duplicates(replace(a_set(), is_query=None))
