"""Your own images, one folder per class.

DIR/CLASS/anything.jpg                 the split follows from the names of the classes
DIR/train/CLASS/..., DIR/test/CLASS/...   a split of your own, by class
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dml.data.annotations import Annotations, Row, first_few, images_below
from dml.data.dataset import Loading, train_test
from dml.data.emoji import hashed_half
from dml.data.records import TrainTest
from dml.errors import InputError, MissingFileError

__all__ = ["folder", "warn_of_single_images"]


def folder(root: str, *, short_side: int | None, cache: bool, cache_folder: str) -> TrainTest:
    """Every folder of root is a class, with all pictures in it at any depth.

    Without folders train and test, and no others, the hash of its name puts a class into one of the halves.

    Raises:
        MissingFileError: root is no folder.
        InputError: there are no pictures, some lie outside of every class, or a class is in both halves.
    """
    loading = Loading(short_side=short_side, cache=cache, cache_folder=cache_folder)
    if not Path(root).is_dir():
        raise MissingFileError(f"dataset.root={root} is no folder: give one that holds a folder per class")
    files = sorted(images_below(Path(root)))
    has_split = {file.split("/")[0] for file in files} == {"train", "test"}
    if loose := [file for file in files if file.count("/") < 1 + has_split]:
        raise InputError(
            f"{len(loose)} images of {root} lie outside of every class folder, {first_few(loose)}: move each into a "
            "folder named after its class"
        )
    _check_names(root, files)
    rows = [_row(file, has_split) for file in files]
    if not rows:
        raise InputError(
            f"dataset.root={root} holds no pictures: it needs a folder per class with pictures in it"
        )
    warn_of_single_images(rows)
    return train_test("folder", Annotations(Path(root), rows, ()), loading)


def _check_names(root: str, files: Sequence[str]) -> None:
    """Refuse names that are not in UTF-8: they could be neither hashed nor written into the files of a run."""
    if wrong := [file for file in files if not _is_text(file)]:
        raise InputError(
            f"the names of {len(wrong)} images of {root} cannot be read as UTF-8, {first_few(wrong)}: if they look "
            "right elsewhere, set PYTHONUTF8=1; else rename them, as convmv does"
        )


def _is_text(name: str) -> bool:
    return not any(
        "\udc80" <= letter <= "\udcff" for letter in name
    )  # how Python holds what it cannot decode


def _row(file: str, has_split: bool) -> Row:
    first, second = file.split("/")[:2]
    return Row(file, second, first) if has_split else Row(file, first, hashed_half(first))


def warn_of_single_images(rows: Sequence[Row]) -> None:
    """Warn of classes with one image, which has no other to be near to."""
    count = Counter(row.label for row in rows)
    if single := sorted(label for label, number in count.items() if number == 1):
        warnings.warn(
            f"{len(single)} of {len(count)} classes have one image, {first_few(single)}: in training it is paired with "
            "itself, and as a query it is left out of the figures; add images, or leave these classes out",
            stacklevel=3,
        )
