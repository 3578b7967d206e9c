"""Labelled images, as every reader hands them on and every later step expects them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dml.contracts import DrawsImages, ImageStore
from dml.types import Pooled

__all__ = ["ImageStore", "Measure", "Records", "Splits", "TrainTest", "draw_image"]

Measure = Callable[[Pooled, Sequence[int]], Tensor | None]


@dataclass(frozen=True, eq=False)
class Records:
    """A set of labelled images.

    images:      the store that the rows point into; shared between subsets.
    rows:        (n,) row of each image in the store.
    labels:      (n,) int64, index into class_names.
    class_names: name of each class; every class has at least one image.
    files:       (n,) name of each image, for people.
    is_query:    (n,) True for a query, False for an image of the gallery; None if every image is both.
    levels:      other difficulties at which the set is measured too: name -> class -> group. A query searches among the
                 images of its own group alone; a class without a group takes no part.
    measures:    what this data set alone can say of a model, by the name of its metric: called with what the model
                 gives for some images, on any device, and with their rows, it gives a number for each, (B,) on the
                 CPU, whose mean is the metric; None where the model does not let it.
    """

    images: ImageStore
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    is_query: NDArray[np.bool_] | None = None
    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.labels) == len(self.files)
        assert self.is_query is None or len(self.is_query) == len(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image at an index of this set, (H, W, 3) uint8, RGB."""
        return self.images[int(self.rows[index])]

    def measured(self, pooled: Pooled, indices: Sequence[int]) -> dict[str, Tensor]:
        """What its measures say of images at these indices, by name, (B,) each."""
        rows = self.rows[list(indices)].tolist() if self.measures else []
        found = {name: measure(pooled, rows) for name, measure in self.measures.items()}
        return {name: values for name, values in found.items() if values is not None}

    def select_classes(self, names: Sequence[str]) -> Records:
        """The subset of these classes, in the order of this set, with labels counted anew from 0."""
        wanted = set(names)
        kept = [i for i, name in enumerate(self.class_names) if name in wanted]
        new_label = np.full(self.num_classes, -1, dtype=np.int64)
        new_label[kept] = np.arange(len(kept))
        chosen = np.flatnonzero(new_label[self.labels] >= 0)
        return replace(
            self,
            rows=self.rows[chosen],
            labels=new_label[self.labels[chosen]],
            class_names=tuple(self.class_names[i] for i in kept),
            files=tuple(self.files[i] for i in chosen),
            is_query=None if self.is_query is None else self.is_query[chosen],
        )


def draw_image(images: ImageStore, row: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """The image of a row for one place of a training batch: drawn anew by a store that draws, else as it is."""
    return images.draw(row, generator) if isinstance(images, DrawsImages) else images[row]


class TrainTest(NamedTuple):
    """What a reader returns: training and test images, of disjoint classes."""

    train: Records
    test: Records


class Splits(NamedTuple):
    """What a protocol returns: images to train on, to choose by, and to report on, of disjoint classes.

    test: None where no class is left to report on.
    val_chooses: False where val is the training images themselves; then the last checkpoint is reported.
    follow_test: the best figure of the test classes along the training is reported too, under its own name.
    """

    train: Records
    val: Records
    test: Records | None
    val_chooses: bool = True
    follow_test: bool = False

    @property
    def val_name(self) -> str:
        """What the figures of val are called."""
        return "val" if self.val_chooses else "train"

    @property
    def measured(self) -> dict[str, Records]:
        """What the finished model is measured on, by the names in metrics.json."""
        return {self.val_name: self.val, **({} if self.test is None else {"test": self.test})}
