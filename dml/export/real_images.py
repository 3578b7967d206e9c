"""Images of a run's data set, as files, on which what was made of the run is held against it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dml.data import Records, Splits
from dml.data.encoded_images import EncodedImages
from dml.data.image_files import ImageFiles
from dml.randomness import numpy_generator
from dml.retrieval import query_scores

__all__ = ["RealImages", "draw_images"]


@dataclass(frozen=True)
class RealImages:
    """Images of whole classes.

    part:     what they are of, ``test`` or ``val``.
    files:    n paths, or contents of files.
    labels:   (n,) int64.
    is_query: (n,), as of Records.
    """

    part: str
    files: list[str | bytes]
    labels: NDArray[np.int64]
    is_query: NDArray[np.bool_] | None

    @property
    def described(self) -> dict[str, Any]:
        """What they are, in plain values."""
        return {"part": self.part, "images": len(self.files), "classes": len(np.unique(self.labels))}

    @property
    def queries(self) -> NDArray[np.int64]:
        """The numbers of those that search."""
        return self._roles()[0]

    def map_at_r(self, vectors: Tensor) -> float | None:
        """map@r of unit vectors (n, D); None if no image has another one to find."""
        query, gallery = self._roles()
        if self.is_query is None:
            scores = query_scores(vectors, self.labels)["map@r"]
        else:
            scores = query_scores(vectors[query], self.labels[query], vectors[gallery], self.labels[gallery])[
                "map@r"
            ]
        answered = scores[~scores.isnan()]
        return float(answered.mean()) if len(answered) else None

    def first_answers(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """(queries,) the most similar other image of each query, by its number."""
        query, gallery = self._roles()
        similarities = vectors[query] @ vectors[gallery].T
        similarities[query[:, None] == gallery[None, :]] = -np.inf
        found: NDArray[np.int64] = gallery[similarities.argmax(1)]
        return found

    def _roles(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        both = np.arange(len(self.labels))
        return (both, both) if self.is_query is None else (both[self.is_query], both[~self.is_query])


def draw_images(splits: Splits, most: int) -> RealImages:
    """Whole classes of the test set, or of the validation set if there is no other, until there are so many images.

    The same each time, so that two exports are held against the same.
    """
    part = "val" if splits.test is None else "test"
    records = splits.val if splits.test is None else splits.test
    sizes, kept, count = np.bincount(records.labels), [], 0
    for label in numpy_generator("export").permutation(records.num_classes):
        if count >= most:
            break
        kept.append(records.class_names[label])
        count += int(sizes[label])
    chosen = records.select_classes(kept)
    files = [_file(chosen, number) for number in range(len(chosen))]
    return RealImages(part, files, chosen.labels, chosen.is_query)


def _file(records: Records, number: int) -> str | bytes:
    """The file of an image, where it has one of its own; else what is shown of it, as a PNG file."""
    store, row = records.images, int(records.rows[number])
    if isinstance(store, ImageFiles):
        return os.path.join(store.folder, store.files[row])
    if isinstance(store, EncodedImages):
        return store.encoded.read(row)
    file = io.BytesIO()
    Image.fromarray(records.image(number)).save(file, "PNG", compress_level=1)
    return file.getvalue()
