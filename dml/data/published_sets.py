"""What the published sets share: where to look for them, what is checked, and the index that spares the checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dml.data.annotations import (
    Annotations,
    Row,
    check_files,
    check_published,
    find_folder,
    refuse_outside,
    refuse_repeated,
)
from dml.data.dataset import Loading, train_test
from dml.data.records import TrainTest
from dml.errors import InputError

__all__ = ["INDEX", "Counts", "PublishedSet", "write_index"]

INDEX = "dml_index.json"  # beside the annotations, written by dml prepare

COUNTED = ("classes", "images", "query", "gallery")
Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class PublishedSet:
    """A published data set.

    name:    the word for ``dataset=``.
    anchors: annotation files of its layouts, relative to its folder; the first that is found tells the layout.
    read:    folder, anchor and number of train classes -> annotations.
    """

    name: str
    anchors: tuple[str, ...]
    read: Callable[[Path, str, int], Annotations]

    def __call__(
        self,
        root: str,
        *,
        train: Mapping[str, int],
        test: Mapping[str, int],
        short_side: int | None,
        cache: bool,
        cache_folder: str,
        check: bool | str = False,
    ) -> TrainTest:
        """The images below root, by the index if that is up to date, else by the annotations.

        Args:
            root: the folder of the data set, or one up to two levels above it.
            train, test: the published numbers of both halves, which are asserted; see check_published.
            short_side, cache, cache_folder, check: see Loading.

        Raises:
            MissingFileError: the data set, an annotation file or images are missing.
            InputError: the annotations are damaged, or the numbers are not the published ones.
        """
        expected = {"train": train, "test": test}
        _check_expected(expected)
        folder, anchor = find_folder(root, self.name, self.anchors)
        annotations = _read_index(folder)
        if annotations is None:
            annotations = self.verify(folder, anchor, expected)
        else:
            check_published(self.name, annotations, expected)
        loading = Loading(short_side=short_side, cache=cache, cache_folder=cache_folder, check=check)
        return train_test(self.name, annotations, loading)

    def verify(self, folder: Path, anchor: str, expected: Counts) -> Annotations:
        """Read the annotations, look for every image, and count; errors as above."""
        annotations = self.read(folder, anchor, expected["train"]["classes"])
        refuse_repeated([row.file for row in annotations.rows], str(annotations.sources[0]))
        check_files(annotations)
        check_published(self.name, annotations, expected)
        return annotations


def write_index(annotations: Annotations) -> Path:
    """Keep annotations whose images were all looked at, so that the next start need not look again.

    The index holds until one of the annotation files changes.
    """
    path = annotations.folder / INDEX
    content = {
        "sources": {
            source.relative_to(annotations.folder).as_posix(): _state(source)
            for source in annotations.sources
        },
        "rows": annotations.rows,
        "levels": annotations.levels,
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content), encoding="ascii")
    partial.replace(path)
    return path


def _check_expected(expected: Counts) -> None:
    for half, numbers in expected.items():
        sound = all(name in COUNTED and type(number) is int for name, number in numbers.items())
        if not sound or not {"classes", "images"} <= set(numbers):
            raise InputError(
                f"dataset.{half}={dict(numbers)}: give whole numbers of classes and images, and where there are "
                "roles, of query and gallery"
            )


def _read_index(folder: Path) -> Annotations | None:
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="ascii"))
        sources = {folder / name: state for name, state in content["sources"].items()}
        rows = [Row(*row) for row in content["rows"]]
        levels = {level: dict(groups) for level, groups in content.get("levels", {}).items()}
        for file in (*content["sources"], *(row.file for row in rows)):
            refuse_outside(file, str(path))
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged: the annotations say it all again
        return None
    if any(not source.is_file() or _state(source) != state for source, state in sources.items()):
        return None
    return Annotations(folder, rows, tuple(sources), levels)


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
