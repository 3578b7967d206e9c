"""Your own images, one folder per class.

DIR/CLASS/anything.jpg                 the split follows from the names of the classes
DIR/train/CLASS/..., DIR/test/CLASS/...   a split of your own, by class
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dml.data.annotations import Annotations, Row, first_few
from dml.data.class_names import with_composed_labels
from dml.data.copies import warn_of_copies
from dml.data.dataset import Loading, train_test
from dml.data.discovery import LINKED, Found, describe, find_images
from dml.data.protocols import hashed_half
from dml.data.records import TrainTest
from dml.distributed import is_main
from dml.errors import InputError, MissingFileError

__all__ = ["folder", "warn_of_single_images"]

log = logging.getLogger(__name__)

HALVES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
OTHER_PARTS = {"val", "valid", "validation", "dev", "query", "gallery", "probe"}
AGAIN = "other names of images"


def folder(
    root: str, *, short_side: int | None, cache: bool, cache_folder: str, check: bool | str = False
) -> TrainTest:
    """Every folder of root is a class, with all images in it at any depth.

    Without folders train and test the hash of its name puts a class into one of the halves. An image counts once,
    however many links lead to it; what is left out is said in the log, with the reason.

    Raises:
        MissingFileError: root is no folder.
        FileError: files or folders cannot be read.
        InputError: there are no images, some lie outside of every class or in two, a class is in both halves, or
            the layout is another one.
    """
    loading = Loading(short_side=short_side, cache=cache, cache_folder=cache_folder, check=check)
    if not Path(root).is_dir():
        raise MissingFileError(f"dataset.root={root} is no folder: give one that holds a folder per class")
    found = find_images(root)
    if not found.files:
        raise InputError(
            f"dataset.root={root} holds no images: it needs a folder per class with images in it; left out: "
            f"{describe(found.left_out)}"
        )
    _check_names(root, found.files)
    halves = _halves(root, {file.split("/")[0] for file in found.files if "/" in file})
    depth = 1 + bool(halves)
    _check_places(root, found, depth)
    rows = with_composed_labels([_row(file, halves) for file in found.files])
    _tell(root, found, halves)
    warn_of_copies(Path(root), rows)
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


def _halves(root: str, tops: Collection[str]) -> dict[str, str]:
    """The half of each folder of a root that is split; nothing for one that holds classes.

    Raises:
        InputError: it is split in another way, or its classes lie one folder deeper.
    """
    halves = {top: HALVES[top.casefold()] for top in tops if top.casefold() in HALVES}
    is_split = {"train", "test"} == set(halves.values())
    named = {top for top in tops if top in halves or top.casefold() in OTHER_PARTS}
    if is_split and len(halves) == len(tops):
        return halves
    if is_split or (len(tops) > 1 and len(named) == len(tops)):
        raise InputError(
            f"dataset.root={root} holds the folders {', '.join(sorted(tops))}, which look like a split, but it has to "
            f"be train and test, and nothing beside them ({_advice(tops)})"
        )
    if len(tops) == 1:
        raise InputError(
            f"dataset.root={root} holds images in one folder alone, {first_few(list(tops))}, which would be the only "
            f"class: if the classes lie in it, give dataset.root={Path(root, *tops)}; a split needs train and test"
        )
    return {}


def _advice(tops: Collection[str]) -> str:
    parts = {top.casefold() for top in tops}
    if parts & {"query", "gallery", "probe"}:
        return "dataset=table takes queries and a gallery, by the column role"
    if parts & OTHER_PARTS:
        return "protocol holds out classes for validation: move those of the others into train, or out of the root"
    return "move the others into one of the two, or out of the root"


def _check_places(root: str, found: Found, depth: int) -> None:
    """Refuse images outside of every class, and those that have names in two of them."""
    if loose := [file for file in found.files if file.count("/") < depth]:
        raise InputError(
            f"{len(loose)} images of {root} lie outside of every class folder, {first_few(loose)}: move each into a "
            "folder named after its class"
        )
    pairs = [(one, other) for other, one in found.others.items()]
    torn = [pair for pair in pairs if len({tuple(name.split("/")[:depth]) for name in pair}) > 1]
    if torn:
        named = [f"{one} = {other}" for one, other in torn]
        raise InputError(
            f"{len(torn)} images of {root} lie in two class folders, {first_few(named)}: each pair is one file under "
            "two names, by a link; remove one of them"
        )


def _row(file: str, halves: Mapping[str, str]) -> Row:
    first, second = file.split("/")[:2]
    return Row(file, second, halves[first]) if halves else Row(file, first, hashed_half(first))


def _tell(root: str, found: Found, halves: Mapping[str, str]) -> None:
    """Say which layout was seen and what was left out; a folder that is left out as a link may have been a class."""
    if links := found.left_out.get(LINKED):
        warnings.warn(
            f"{len(links)} folders of {root} lead to folders that are read anyway, {first_few(links)}: they are left "
            "out, so that each image counts once; remove them",
            stacklevel=3,
        )
    layout = f"split by the folders {', '.join(sorted(halves))}" if halves else "one folder per class"
    left_out = {**found.left_out, **({AGAIN: sorted(found.others)} if found.others else {})}
    if is_main():
        log.info("%s: %s; left out: %s", root, layout, describe(left_out))


def warn_of_single_images(rows: Sequence[Row]) -> None:
    """Warn of classes with one image, which has no other to be near to."""
    count = Counter(row.label for row in rows)
    if single := sorted(label for label, number in count.items() if number == 1):
        warnings.warn(
            f"{len(single)} of {len(count)} classes have one image, {first_few(single)}: in training it is paired with "
            "itself, and as a query it is left out of the figures; add images, or leave these classes out",
            stacklevel=3,
        )
