"""Images of a data set that are nearly the same in two of its parts, so that a figure promises too much."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
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
    where = [(name, number) for name, part in parts.items() for number in range(len(part))]
    blocks = [(start, vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)]
    found = []
    for start, block in blocks:
        later = (other for other in blocks if other[0] >= start)
        for i, j, score in zip(*(x.tolist() for x in pairs_above(block, start, later, above)), strict=True):
            if where[i][0] != where[j][0]:
                found.append(Leak(*_named(parts, *where[i]), *_named(parts, *where[j]), score))
    sizes = {name: len(part) for name, part in parts.items()}
    return Leaks(above, sizes, sorted(found, key=lambda leak: (-leak.similarity, leak)))


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


def _named(parts: dict[str, Records], name: str, number: int) -> tuple[str, str, str]:
    records = parts[name]
    return name, records.files[number], records.class_names[records.labels[number]]
