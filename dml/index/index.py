"""An index as a program sees it: images in, the most similar ones out, and how far that can be trusted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dml.data import ImageSource
from dml.errors import InputError, MissingFileError, UnavailableError
from dml.index.approximate import Recall, open_approximate
from dml.index.calibration_file import CalibrationRecord, calibration_for
from dml.index.searching import search_blocks
from dml.index.store import Item, Store
from dml.index.writer import check_model
from dml.model import EmbeddingModel
from dml.run_folder import RunFolder
from dml.runs import load_model
from dml.shared_models import local_folder

__all__ = ["Hit", "Index", "open_index"]

NAMED = 5  # labels, in a message


@dataclass(frozen=True)
class Hit:
    """One of the images that were found.

    path:    absolute.
    score:   similarity to the query, the dot product of both unit vectors: 1 for the same image.
    label:   None where the index has none.
    match:   whether the score reaches the calibrated threshold; None without one.
    item:    the number of the image, which stays with it.
    columns: further columns of the table that it came from.
    """

    path: str
    score: float
    label: str | None
    match: bool | None
    item: int
    columns: Mapping[str, str] = field(default_factory=dict)


def open_index(
    folder: str | os.PathLike[str],
    *,
    run: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    trust: Sequence[str] = (),
    exact: bool = False,
) -> Index:
    """Open an index to search it.

    Args:
        folder: that `build_index` has made.
        run: the run folder of its model, if it is no longer where it was.
        device: of the model; the search is on the CPU.
        trust: as in `dml.load_model`.
        exact: compare with all vectors, also where an approximate search was prepared.

    Raises:
        MissingFileError: the folder is no index.
        InputError: it is damaged, or of a newer version.
    """
    return Index(Store(folder), run=run, device=device, trust=trust, exact=exact)


class Index:
    """Vectors of images and the model that made them; answers are exact, unless it was built for approximate ones.

    Iterating gives every image with its vector (D,), in the order of their numbers.
    """

    def __init__(
        self,
        store: Store,
        *,
        run: str | os.PathLike[str] | None = None,
        device: torch.device | str = "cpu",
        trust: Sequence[str] = (),
        exact: bool = False,
    ) -> None:
        self.store, self._exact = store, exact
        self._approximate = None if exact else open_approximate(store)
        self._run, self._device, self._trust = Path(run or store.info.run), device, trust
        self._model: EmbeddingModel | None = None

    def reopened(self) -> Index:
        """The index as it is on the disk now, by the model that is loaded already; this one is closed.

        Raises:
            UnavailableError: it was upgraded to another model.
        """
        store = Store(self.store.folder.path)
        if store.info.fingerprint != self.store.info.fingerprint:
            store.close()
            raise UnavailableError(
                f"{store.folder} was upgraded from the model {self.store.info.model} to {store.info.model}: open it "
                "again, or start the service again"
            )
        new = Index(store, run=self._run, device=self._device, trust=self._trust, exact=self._exact)
        new._model = self._model
        self.store.close()
        return new

    def __len__(self) -> int:
        return len(self.store)

    def __iter__(self) -> Iterator[tuple[Item, NDArray[np.float32]]]:
        for start, vectors in self.store.blocks():
            items = self.store.items_of(range(start, start + len(vectors)))
            for row in sorted(items):
                yield items[row], vectors[row - start]

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    @property
    def model(self) -> EmbeddingModel:
        """The model that made the vectors, loaded when it is first needed and compared with the fingerprint.

        Raises:
            MissingFileError: its run is no longer there.
            InputError: it is another model.
        """
        if self._model is None:
            if not RunFolder(local_folder(self._run)).config.is_file():
                raise MissingFileError(
                    f"{self.store.folder} was made by the run {self._run}, which is not there: say where it is by "
                    "--run RUN, or run=RUN in Python"
                )
            model = load_model(
                self._run, checkpoint=self.store.info.checkpoint, device=self._device, trust=self._trust
            )
            check_model(self.store, model)
            self._model = model
        return self._model

    @property
    def recall(self) -> Recall | None:
        """How many of the true neighbours an approximate search finds; None if the search is exact."""
        return None if self._approximate is None else self._approximate.recall

    @property
    def calibration(self) -> CalibrationRecord | None:
        """What `dml calibrate` found for the model; None if it was not asked."""
        return calibration_for(self.store.info, self._run)

    def search(
        self,
        images: Iterable[ImageSource],
        k: int | None = None,
        *,
        above: float | None = None,
        label: str | None = None,
    ) -> list[list[Hit]]:
        """The k most similar images of the index for each of some images, the most similar first.

        Args:
            images: paths, Pillow images, bytes or open files, as `model.embed` takes them.
            k: 10, or all of a smaller index, if it is not said.
            above: leave out what is less similar.
            label: look at images of this label only; of fewer than k, all.

        Raises:
            InputError: k is beyond the index, no image has the label, or this is not the model that made it.
            FileError: an image cannot be read.
        """
        return self.search_vectors(self.model.embed(images).numpy(), k, above=above, label=label)

    def search_vectors(
        self,
        vectors: NDArray[np.floating[Any]],
        k: int | None = None,
        *,
        above: float | None = None,
        label: str | None = None,
    ) -> list[list[Hit]]:
        """The same for vectors (Q, D) that the model has made already; it is not loaded."""
        queries, k = self.check_vectors(vectors), self._check_k(k)
        leave_out = self.store.deleted if label is None else self._rows_without(label)
        if self._approximate is None:
            nearest = search_blocks(queries, self.store.blocks(), k, leave_out=leave_out)
        else:
            nearest = self._approximate.search(self.store, queries, k, leave_out=leave_out)
        items = self.store.items_of({int(row) for row in nearest.rows.ravel() if row >= 0})
        calibration = self.calibration
        threshold = None if calibration is None else calibration.threshold
        return [
            [
                _hit(items[int(row)], float(score), threshold)
                for score, row in zip(scores, rows, strict=True)
                if row >= 0 and (above is None or score >= above)
            ]
            for scores, rows in zip(nearest.scores, nearest.rows, strict=True)
        ]

    def _rows_without(self, label: str) -> NDArray[np.int64]:
        others = self.store.rows_without(label)
        if len(others) == self.store.rows:
            known = ", ".join(map(repr, self.store.labels(NAMED))) or "no image has any"
            raise InputError(
                f"no image of {self.store.folder} has the label {label!r}; the most frequent labels: {known}"
            )
        return others

    def check_vectors(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Queries (Q, D) as they are searched with.

        Raises:
            InputError: they have another dimension than those of the index, a NaN or an infinity.
        """
        queries = np.ascontiguousarray(vectors, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.store.info.dimension:
            raise InputError(
                f"the query vectors have shape {queries.shape}, and those of {self.store.folder} have "
                f"{self.store.info.dimension} dimensions: embed the queries with its model, {self.store.info.model}"
            )
        if not np.isfinite(queries).all():
            raise InputError(
                "a query vector has NaN or infinity: embed the image with the model of the index"
            )
        return queries

    def _check_k(self, k: int | None) -> int:
        count = len(self)
        if count == 0:
            raise InputError(f"{self.store.folder} holds no images: add some by `dml index add`")
        if k is None:
            return min(10, count)
        if not 1 <= k <= count:
            raise InputError(f"k={k}, and {self.store.folder} has {count:,} images: ask for 1 to {count:,}")
        return k


def _hit(item: Item, score: float, threshold: float | None) -> Hit:
    match = None if threshold is None else score >= threshold
    return Hit(item.path, score, item.label, match, item.id, item.columns)
