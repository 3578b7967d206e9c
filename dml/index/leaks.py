"""Images of a data set that are nearly the same in two of its parts, so that a figure promises too much."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.assembly import build_data, build_evaluator, build_model
from dml.composition import compose
from dml.config import TrainConfig
from dml.data import Records, Splits
from dml.devices import choose_device
from dml.errors import InputError
from dml.index.copies import SAMPLE, copy_threshold
from dml.index.near_pairs import Pixels, Queries, near_pairs, turned_queries
from dml.index.parts import embed_part
from dml.model import EmbeddingModel
from dml.progress import progress
from dml.runs import located_config, trained_model

__all__ = ["Leak", "Leaks", "evaluate_without_leaks", "find_leaks", "find_leaks_of_data"]

BLOCK = 2**12  # rows at a time


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

    def leaked(self, part: str) -> set[str]:
        """Files of a part that are near-duplicates of an image of a part before it, as validation is before test."""
        return {leak.other_file for leak in self.pairs if leak.other_part == part}


def find_leaks(
    run: str | os.PathLike[str],
    *,
    above: float | None = None,
    turned: bool = False,
    data: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> Leaks:
    """Near-duplicates across the training, validation and test images of a run's data set, as its model sees them.

    Args:
        above: a similarity, by which alone pairs are told; None measures it on copies that are made of test images,
            and compares the pixels of what reaches it.
        turned: find copies that are mirrored or turned by a quarter, too.
        data, device, trust: as in `evaluate_run`.

    Raises:
        InputError: the similarity is not between -1 and 1, or all images are trained on.
        MissingFileError: the run, its checkpoint or its data set is not there.
    """
    cfg = located_config(run, data=data, device=device, trust=trust)
    splits = build_data(cfg)
    return _find(cfg, splits, trained_model(cfg, run, device=choose_device(cfg)), above, turned)


def find_leaks_of_data(
    overrides: Sequence[str], *, above: float | None = None, turned: bool = False
) -> Leaks:
    """The same before any training: for the data set of ``dml train OVERRIDES``, by the model that it would begin with.

    Raises:
        ConfigError: the configuration cannot be composed.
        InputError, MissingFileError: as `find_leaks`.
    """
    cfg = compose(overrides)
    splits = build_data(cfg)
    return _find(cfg, splits, build_model(cfg).to(choose_device(cfg)).eval(), above, turned)


def evaluate_without_leaks(
    run: str | os.PathLike[str],
    *,
    checkpoint: str = "best",
    data: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> tuple[Leaks, dict[str, dict[str, float]]]:
    """The leaks of a run's data set, and the metrics of each part without its images that leaked into it.

    A test image is left out, as query and as gallery, if it is a near-duplicate of one that was trained on or chosen
    by, and a validation image if it is one of a training image.

    Raises:
        InputError, MissingFileError: as `evaluate_run`, or what is left of a part cannot be measured.
    """
    cfg = located_config(run, data=data, device=device, trust=trust)
    splits = build_data(cfg)
    model = trained_model(cfg, run, checkpoint=checkpoint, device=choose_device(cfg))
    leaks, evaluator = _find(cfg, splits, model, None, False), build_evaluator(cfg, splits)
    metrics = {}
    for name, records in splits.measured.items():
        kept = records if name == "train" else _without(records, leaks.leaked(name))
        evaluator.check(kept, f"{name}, without its leaks,")
        metrics[name] = evaluator(model, kept).metrics
    return leaks, metrics


def _find(
    cfg: TrainConfig, splits: Splits, model: EmbeddingModel, above: float | None, turned: bool
) -> Leaks:
    parts = {"train": splits.train, **splits.measured}
    if len(parts) == 1:
        raise InputError("all images are trained on, and there are no others to compare them with")
    vectors = np.concatenate([embed_part(cfg, model, part) for part in parts.values()])
    by_pixels = above is None
    if above is None:
        above = _own_threshold(model, list(parts.values())[-1])
    if not -1 <= above <= 1 + 1e-6:
        raise InputError(f"above={above}: a similarity lies between -1 and 1")
    where = [(name, number) for name, part in parts.items() for number in range(len(part))]

    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])

    def image(row: int) -> Image.Image:
        name, number = where[row]
        return Image.fromarray(parts[name].image(number))

    def queries() -> Iterator[Queries]:
        """Of all images that were not trained on: a pair across parts has one of them."""
        rows = np.arange(len(splits.train), len(vectors))
        with progress("comparing", len(rows)) as advance:
            for start in range(0, len(rows), BLOCK):
                yield Queries(vectors[rows[start : start + BLOCK]], rows[start : start + BLOCK])
                advance(len(rows[start : start + BLOCK]))
        if turned:
            yield from turned_queries(model, image, rows)

    pairs = near_pairs(
        queries(),
        lambda: ((start, vectors[start : start + BLOCK]) for start in range(0, len(vectors), BLOCK)),
        above,
        is_pair=lambda own, rows, _: part_of[own] != part_of[rows],
        pixels=Pixels(image) if by_pixels else None,
    )
    order = np.argsort(-pairs.similarities, kind="stable")
    found = LeakingPairs(parts, where, pairs.rows[order], pairs.similarities[order])
    return Leaks(above, {name: len(part) for name, part in parts.items()}, found)


def _own_threshold(model: EmbeddingModel, records: Records) -> float:
    numbers = range(0, len(records), max(1, len(records) // SAMPLE))
    return copy_threshold(model, [Image.fromarray(records.image(number)) for number in numbers][:SAMPLE])


def _without(records: Records, files: Collection[str]) -> Records:
    """Without some images, and without the classes that have no others; the same records if there are none."""
    kept = np.array([name not in files for name in records.files], bool)
    if kept.all():
        return records
    classes, labels = np.unique(records.labels[kept], return_inverse=True)
    return replace(
        records,
        rows=records.rows[kept],
        labels=labels.astype(np.int64),
        class_names=tuple(records.class_names[label] for label in classes),
        files=tuple(name for name, stays in zip(records.files, kept, strict=True) if stays),
        is_query=None if records.is_query is None else records.is_query[kept],
    )
