"""Your own images, or those of others, in the tables of the `datasets` library: on the Hub or on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dml.data.annotations import Annotations, Row, first_few
from dml.data.class_names import with_composed_labels
from dml.data.copies import warn_of_encoded_copies
from dml.data.dataset import Loading, train_test
from dml.data.encoded_images import EncodedImages
from dml.data.folder import warn_of_single_images
from dml.data.hub_columns import image_column, label_column, labels, split_column
from dml.data.hub_images import HubImages
from dml.data.hub_sets import open_sets
from dml.data.protocols import hashed_half
from dml.data.records import TrainTest
from dml.errors import InputError

__all__ = ["hub"]

HALVES = ("train", "test")


def hub(
    name: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    image: str | None = None,
    label: str | None = None,
    split: str = "given",
    short_side: int | None,
    cache: bool,
    cache_folder: str,
    check: bool | str = False,
) -> TrainTest:
    """All rows of a set as images, in its order.

    Args:
        name: USER/SET on the Hub, a folder that save_to_disk wrote, or one of parquet or arrow files.
        config: which of several configurations on the Hub.
        revision: the commit on the Hub.
        image, label: the columns, where there is a choice.
        split: "given" takes splits or a column split of train and test, else the hash of the name of the class; "hash"
            takes the hash whatever there is; anything else is the column that says train or test.
        short_side, cache, cache_folder, check: see Loading.

    Raises:
        MissingFileError: there is no such set.
        ConfigError: the library is missing, or a revision is needed.
        InputError: columns, labels or splits are not accepted.
        FileError: the set cannot be had or read.
    """
    folder = Path(cache_folder) / "hub"
    tables = open_sets(name, config=config, revision=revision, split=split, folder=folder)
    tables = {half: table for half, table in tables.items() if len(table)}
    if not tables:
        raise InputError(f"dataset.name={name} has no rows: give a set that has some")
    features = _features(name, tables)
    images = HubImages(tables, image_column(features, image))
    column = label_column(features, label)
    by = split_column(features, split)
    rows = [
        Row(f"{part}/{number:06d}", class_name, half)
        for part, table in tables.items()
        for number, (class_name, half) in enumerate(
            _classes(table, column, by, f"dataset.name={name}, {part}")
        )
    ]
    if split == "given" and by is None:
        rows = _by_part(name, rows, list(tables))
    rows = with_composed_labels(rows)
    warn_of_encoded_copies(f"dataset.name={name}", rows, images)
    warn_of_single_images(rows)
    loading = Loading(
        short_side=short_side,
        cache=cache,
        cache_folder=cache_folder,
        check=check,
        open_images=lambda folder, files, short_side: EncodedImages(images, short_side),
    )
    return train_test("hub", Annotations(folder, rows, ()), loading)


def _features(name: str, tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns, the same in each split."""
    (first, features), *others = [(half, dict(table.features)) for half, table in tables.items()]
    for half, found in others:
        if found != features:
            raise InputError(
                f"dataset.name={name}: the columns of {half} and {first} differ, {', '.join(found)} and "
                f"{', '.join(features)}: write them alike, class labels with the same names"
            )
    return features


def _classes(table: Any, column: str, by: str | None, place: str) -> list[tuple[str, str]]:
    """Name and half of the class of each row; by the hash where no column says the half."""
    names = labels(table, column, place)
    if by is None:
        return [(name, hashed_half(name)) for name in names]
    halves = labels(table, by, place)
    if wrong := sorted(set(halves) - set(HALVES)):
        raise InputError(
            f"{place}: column {by} says {', '.join(wrong[:3])}; accepted: train, test. Let the names of the classes "
            "decide by dataset.split=hash"
        )
    return list(zip(names, halves, strict=True))


def _by_part(name: str, rows: list[Row], parts: list[str]) -> list[Row]:
    """The splits of the set as the halves, if it has any."""
    if len(parts) == 1:
        return rows
    if set(parts) != set(HALVES):
        raise InputError(
            f"dataset.name={name} has the splits {', '.join(parts)}; accepted: train and test, each with classes of "
            "its own, or a single one. Let the names of the classes decide over all of them by dataset.split=hash"
        )
    found = [row._replace(split=row.file.split("/")[0]) for row in rows]
    train, test = ({row.label for row in found if row.split == half} for half in HALVES)
    if both := sorted(train & test):
        raise InputError(
            f"dataset.name={name}: {len(both)} classes have images in train and in test, {first_few(both)}: what is "
            "learned is measured on classes never seen. Let the names of the classes decide by dataset.split=hash"
        )
    return found
