"""Queries whose gallery has nearly the same image, which a search would find without any learning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.data.records import Records
from dml.errors import InputError

__all__ = ["near_duplicates"]

SIDE = 16  # pixels of a thumbnail
ALIKE = 0.95  # correlation of two thumbnails
AT_A_TIME = 1024  # queries


def near_duplicates(records: Records) -> list[tuple[int, int]]:
    """Each query that has a near-duplicate in the gallery, and the image of it that is most like the query.

    Two images are nearly the same if their grey thumbnails of 16 × 16 correlate by 0.95 or more.

    Raises:
        InputError: the set has no queries and gallery.
    """
    if records.is_query is None:
        raise InputError(
            "near-duplicates are looked for between queries and a gallery, and this set has none: give its images roles"
        )
    thumbnails = np.stack([_thumbnail(records.image(i)) for i in range(len(records))])
    queries, gallery = np.flatnonzero(records.is_query), np.flatnonzero(~records.is_query)
    found = []
    for start in range(0, len(queries), AT_A_TIME):
        some = queries[start : start + AT_A_TIME]
        likeness = thumbnails[some] @ thumbnails[gallery].T
        nearest = likeness.argmax(1)
        found += [(int(some[i]), int(gallery[nearest[i]])) for i in np.flatnonzero(likeness.max(1) >= ALIKE)]
    return found


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values without their mean, of length 1; all 0 for an image of one grey."""
    grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float64).ravel()
    values = values - values.mean()
    scaled: NDArray[np.float64] = values / max(float(np.linalg.norm(values)), 1e-9)
    return scaled.astype(np.float32)
