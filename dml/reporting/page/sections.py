"""What a page shows of one run, as values: the template writes them as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dml.config import TrainConfig
from dml.reporting.embeddings import read_embeddings
from dml.reporting.page.images import Sheet
from dml.reporting.page.settings import Command, Difference
from dml.reporting.queries import QueryRanking
from dml.run_folder import RunFolder

__all__ = ["Confusion", "Contents", "Look", "PlaneView", "Row", "Shown", "Spot", "TestSet", "WorstClass"]

NO_CHART = Markup("")


@dataclass(frozen=True)
class TestSet:
    """The embeddings of a run: vectors (n, D), labels (n,), the names of classes and images; is_query (n,) or None."""

    __test__ = False  # no test, for pytest

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: Sequence[str]
    files: Sequence[str]
    is_query: NDArray[np.bool_] | None

    @classmethod
    def read(cls, folder: RunFolder) -> TestSet:
        """Raises InputError for a file that no run writes so."""
        stored = read_embeddings(folder.test_embeddings)
        both = bool(stored["is_query"].all() and stored["is_gallery"].all())
        names, files = (tuple(map(str, stored[name])) for name in ("class_names", "files"))
        roles = None if both else stored["is_query"].astype(bool)
        return cls(
            stored["vectors"].astype(np.float32), stored["labels"].astype(np.int64), names, files, roles
        )


class Row(NamedTuple):
    """A metric: its name, and its figure for each set, as text; interval of the test classes, as text."""

    name: str
    values: Sequence[str]
    interval: str


class Shown(NamedTuple):
    """An image with its class and a note; data is "" where the data set is not at hand. right: None for a query."""

    data: str
    name: str
    note: str
    right: bool | None


class WorstClass(NamedTuple):
    name: str
    image: Shown
    queries: int
    recall: float
    average_precision: float


class Confusion(NamedTuple):
    first: str
    second: str
    confused: int
    queries: int
    images: Sequence[Shown]


class Look(NamedTuple):
    """An image and its maps, each with a caption."""

    name: str
    pictures: Sequence[tuple[str, str]]


class Spot(NamedTuple):
    """A place in the plane with an image: its number in the sheet, and its class."""

    x: float
    y: float
    number: int
    label: int


class PlaneView(NamedTuple):
    """path: of all images, as SVG; spots: those with an image; names: of their classes by number, as JSON."""

    name: str
    note: str
    path: str
    spots: Sequence[Spot]
    names: str


@dataclass(frozen=True)
class Contents:
    """Everything that the template of a run writes; parts that the run does not have are empty."""

    name: str
    headline: str
    folder: str
    kept: int | None
    settings: TrainConfig
    environment: Mapping[str, Any]
    sentences: Sequence[str]
    sets: Sequence[str]
    rows: Sequence[Row]
    differences: Sequence[Difference]
    commands: Sequence[Command]
    course: Sequence[Markup]
    test: TestSet | None = None
    ranking: QueryRanking | None = None
    classes: Sequence[WorstClass] = ()
    worst: Sequence[WorstClass] = ()
    all_classes: int = 0
    class_chart: Markup = NO_CHART
    confusions: Sequence[Confusion] = ()
    hardest: Sequence[Sequence[Shown]] = ()
    unanswered: int = 0
    similarity_chart: Markup = NO_CHART
    planes: Sequence[PlaneView] = ()
    sheet: Sheet | None = None
    looks: Sequence[Look] = ()
    notes: Sequence[str] = field(default_factory=tuple)
