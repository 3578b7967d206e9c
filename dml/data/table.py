"""Your own images, listed in a CSV table in UTF-8 with the columns path, label and perhaps split and role."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dml.data.annotations import Annotations, Row, first_few
from dml.data.class_names import with_composed_labels
from dml.data.copies import warn_of_copies
from dml.data.dataset import Loading, train_test
from dml.data.discovery import Identity, identity, refuse_unread, why_unreadable
from dml.data.folder import warn_of_single_images
from dml.data.formats import HEIF, why_no_picture
from dml.data.protocols import hashed_half
from dml.data.records import TrainTest
from dml.errors import InputError, MissingFileError

__all__ = ["table"]

ACCEPTED = {"split": ("train", "test"), "role": ("query", "gallery")}


def table(
    path: str, *, short_side: int | None, cache: bool, cache_folder: str, check: bool | str = False
) -> TrainTest:
    """One line per image; a path that is not absolute is relative to the folder of the table.

    path:  of the image.
    label: name of its class.
    split: train or test, the same for all images of a class; without it the hash of the label decides.
    role:  query or gallery, of test images; without it every test image is both.

    Other columns are left alone.

    Raises:
        MissingFileError: the table or images are missing.
        FileError: an image cannot be read.
        InputError: a column or a field is missing or not one of those accepted, or an image comes twice.
    """
    loading = Loading(short_side=short_side, cache=cache, cache_folder=cache_folder, check=check)
    source = Path(path)
    rows = _read(source)
    if missing := [row.file for row in rows if not (source.parent / row.file).is_file()]:
        raise MissingFileError(
            f"{path}: {len(missing):,} of {len(rows):,} images are not there, {first_few(missing)}; a path is absolute "
            f"or relative to {source.parent.resolve()}"
        )
    _refuse_unread(source, rows)
    _refuse_repeated(source, rows)
    rows = with_composed_labels(rows)
    _check_roles(path, rows)
    rows = [row if row.split == "test" else row._replace(role="") for row in rows]
    warn_of_copies(source.parent, rows)
    warn_of_single_images(rows)
    return train_test("table", Annotations(source.parent, rows, (source,)), loading)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        raise MissingFileError(
            f"dataset.path={path} is no file: give a CSV table with the columns path and label"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            if lacking := [name for name in ("path", "label") if name not in columns]:
                raise InputError(
                    f"{path} has no column {lacking[0]}; its first line names {', '.join(columns) or 'nothing'}. It "
                    "needs path and label, separated by commas, and may have split and role"
                )
            rows = [_row(f"{path}, line {reader.line_num}", line) for line in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is no table of comma-separated values in UTF-8: {error}; save it as one"
        ) from error
    if not rows:
        raise InputError(f"{path} lists no images: below the names of the columns comes one line per image")
    return rows


def _row(place: str, line: dict[str | None, str | None]) -> Row:
    if None in line or None in line.values():
        raise InputError(
            f"{place} has {'more' if None in line else 'fewer'} fields than there are columns: put a field that holds "
            "a comma into double quotes, and leave an empty field between its commas"
        )
    for column in ("path", "label"):
        if not (line[column] or "").strip():
            raise InputError(f"{place} has an empty {column}: fill it in or remove the line")
    fields = {column: (line.get(column) or "").strip() for column in ("path", "label", "split", "role")}
    for column, accepted in ACCEPTED.items():
        needed = column == "split" and "split" in line
        if fields[column] not in accepted and (needed or fields[column]):
            raise InputError(f"{place} has {column} {fields[column]!r}; accepted: {', '.join(accepted)}")
    return Row(
        fields["path"], fields["label"], fields["split"] or hashed_half(fields["label"]), fields["role"]
    )


def _refuse_unread(source: Path, rows: Sequence[Row]) -> None:
    paths = {row.file: source.parent / row.file for row in rows}
    unreadable = {file: reason for file, path in paths.items() if (reason := why_unreadable(path))}
    heif = [file for file in paths if file not in unreadable and why_no_picture(paths[file]) == HEIF]
    refuse_unread(str(source), unreadable, heif, len(paths) - len(heif))


def _refuse_repeated(source: Path, rows: Sequence[Row]) -> None:
    """Refuse images that come more than once, however their paths are spelled and by whatever link."""
    names: dict[Identity, list[str]] = defaultdict(list)
    for row in rows:
        names[identity(source.parent / row.file)].append(row.file)
    if repeated := [files for files in names.values() if len(files) > 1]:
        spellings = [" = ".join(map(repr, dict.fromkeys(files))) for files in repeated]
        raise InputError(
            f"{source} names {len(repeated)} more than once, {first_few(spellings, show=str)}: each image has one "
            "line; remove the others"
        )


def _check_roles(path: str, rows: list[Row]) -> None:
    """Either no test image has a role or each of them; training images need none, so theirs is left alone."""
    test = [row for row in rows if row.split == "test"]
    without = [row.file for row in test if not row.role]
    if without and len(without) < len(test):
        raise InputError(
            f"{path}: {len(without)} test images have no role, {first_few(without)}, but others have: make each of "
            "them query or gallery, or empty the column"
        )
    if test and not without and len({row.role for row in test}) < 2:
        raise InputError(
            f"{path}: every test image is a {test[0].role}: give query to some and gallery to others, or empty the "
            "column to let each image search all others"
        )
