"""Images of a data set that are nearly the same in two of its parts, so that a figure promises too much."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.assembly import build_data
from dml.data import Records, Splits
from dml.devices import choose_device
from dml.errors import InputError
from dml.index.copies import SAMPLE, copy_threshold
from dml.index.parts import embed_part
from dml.index.searching import pairs_above
from dml.model import EmbeddingModel
from dml.runs import located_config, trained_model

__all__ = ["Leak", "Leaks", "find_leaks"]

BLOCK = 2**14  # rows at a time


class Leak(NamedTuple):
    """Two images of different parts, and how similar they are."""

    part: str
    file: str
    label: str
    other_part: str
    other_file: str
    other_label: str
    similarity: float


class LeakingPairs(Sequence[Leak]):
    """Leaks that get their names when they are looked at: a model that tells little apart finds millions.

    where: part and number in it of each image; rows: (n, 2) images of each pair; similarities: (n,).
    """

    def __init__(
        self,
        parts: dict[str, Records],
        where: Sequence[tuple[str, int]],
        rows: NDArray[np.int64],
        similarities: NDArray[np.float64],
    ) -> None:
        self._parts, self._where, self._rows, self._similarities = parts, where, rows, similarities

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Leak: ...
    @overload
    def __getitem__(self, index: slice) -> LeakingPairs: ...
    def __getitem__(self, index: int | slice) -> Leak | LeakingPairs:
        if isinstance(index, slice):
            return LeakingPairs(self._parts, self._where, self._rows[index], self._similarities[index])
        i, j = self._rows[index].tolist()
        return Leak(*self._named(i), *self._named(j), float(self._similarities[index]))

    def _named(self, row: int) -> tuple[str, str, str]:
        name, number = self._where[row]
        records = self._parts[name]
        return name, records.files[number], records.class_names[records.labels[number]]


@dataclass(frozen=True)
class Leaks:
    """above: the similarity that each pair has at least; sizes: images of each part; pairs: the most similar first."""

    above: float
    sizes: dict[str, int]
    pairs: Sequence[Leak]


def find_leaks(
    run: str | os.PathLike[str],
    *,
    above: float | None = None,
    data: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> Leaks:
    """Near-duplicates across the training, validation and test images of a run's data set, as its model sees them.

    Args:
        above: a similarity; None measures it on copies that are made of test images.
        data, device, trust: as in `evaluate_run`.

    Raises:
        InputError: the similarity is not between -1 and 1.
        MissingFileError: the run, its checkpoint or its data set is not there.
    """
    cfg = located_config(run, data=data, device=device, trust=trust)
    splits = build_data(cfg)
    model = trained_model(cfg, run, device=choose_device(cfg))
    parts = _parts(splits, run)
    vectors = np.concatenate([embed_part(cfg, model, part) for part in parts.values()])
    if above is None:
        above = _own_threshold(model, list(parts.values())[-1])
    if not -1 <= above <= 1 + 1e-6:
        raise InputError(f"above={above}: a similarity lies between -1 and 1")
    return Leaks(above, {name: len(part) for name, part in parts.items()}, _pairs(parts, vectors, above))


def _pairs(parts: dict[str, Records], vectors: NDArray[np.float32], above: float) -> LeakingPairs:
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    blocks = [(start, vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)]
    found = []
    for start, block in blocks:
        i, j, scores = pairs_above(block, start, (other for other in blocks if other[0] >= start), above)
        across = part_of[i] != part_of[j]
        found.append((i[across], j[across], scores[across]))
    i, j, scores = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort([j, i, -scores])
    where = [(name, number) for name, part in parts.items() for number in range(len(part))]
    return LeakingPairs(parts, where, np.stack([i[order], j[order]], axis=1), scores[order])


def _parts(splits: Splits, run: str | os.PathLike[str]) -> dict[str, Records]:
    parts = {"train": splits.train, **splits.measured}
    if len(parts) == 1:
        raise InputError(
            f"{run} has images to train on and no others, so there is nothing to compare them with"
        )
    return parts


def _own_threshold(model: EmbeddingModel, records: Records) -> float:
    numbers = range(0, len(records), max(1, len(records) // SAMPLE))
    return copy_threshold(model, [Image.fromarray(records.image(number)) for number in numbers][:SAMPLE])
