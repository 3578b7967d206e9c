"""Cars196 (Krause et al. 2013): photographs of cars, 196 models. Two layouts are about:

    flat     cars_annos.mat, and car_ims/000001.jpg ...
    split    devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat (beside devkit/ or in it),
             and cars_train/00001.jpg ..., cars_test/00001.jpg ...

The split layout is split by images, not by classes; its parts are put together here, and the first half of the
models trains.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from dml.data.annotations import Annotations, Row, refuse_outside
from dml.data.published_sets import PublishedSet
from dml.errors import InputError, MissingFileError

__all__ = ["cars"]


def _read(folder: Path, anchor: str, train_classes: int) -> Annotations:
    if anchor == FLAT:
        sources = {folder / FLAT: ("relative_im_path", "")}
    else:
        sources = {
            folder / SPLIT: ("fname", "cars_train/"),
            _labelled_test(folder): ("fname", "cars_test/"),
        }
    rows = [
        Row(prefix + file, f"{number:03d}", "train" if number <= train_classes else "test")
        for path, (field, prefix) in sources.items()
        for file, number in _read_annotations(path, field)
    ]
    return Annotations(folder, rows, tuple(sources))


def _labelled_test(folder: Path) -> Path:
    places = (folder / WITH_LABELS, folder / "devkit" / WITH_LABELS)
    for path in places:
        if path.is_file():
            return path
    raise MissingFileError(
        f"{places[0]} is missing: cars_test_annos.mat of the devkit has no classes, the file {WITH_LABELS} has them, "
        f"and is published apart from it; put it into {folder}"
    )


def _read_annotations(path: Path, field: str) -> Iterator[tuple[str, int]]:
    """File and class number of each image."""
    import scipy.io  # for those alone who read cars
    from scipy.io.matlab import MatReadError

    _refuse_bomb(path)
    try:
        table = np.atleast_1d(scipy.io.loadmat(path, squeeze_me=True)["annotations"])
        files, numbers = table[field], table["class"]
    except (KeyError, ValueError, IndexError, TypeError, NotImplementedError, OSError, MatReadError) as error:
        raise InputError(
            f"{path} has no table `annotations` with the columns {field} and class ({error}): it is damaged or another "
            "file; restore it from the archive"
        ) from error
    for number, (file, label) in enumerate(zip(files, numbers, strict=True), 1):
        refuse_outside(str(file), f"{path}, annotation {number}")
        yield str(file), int(label)


def _refuse_bomb(path: Path) -> None:
    """Refuse a file of MATLAB 5 to 7 whose compressed parts unpack to far more than annotations are."""
    content = path.read_bytes()
    order, place = "<" if content[126:128] == b"IM" else ">", 128
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        part, place = content[place + 8 : place + 8 + size], place + 8 + size
        with suppress(zlib.error):  # what is damaged is said when it is read
            if kind == COMPRESSED and len(zlib.decompressobj().decompress(part, LARGEST)) == LARGEST:
                raise InputError(
                    f"{path} has {len(content):,} bytes and unpacks to more than {LARGEST:,}, as no annotations do: "
                    "fetch it from another place"
                )


COMPRESSED, LARGEST = 15, 2**27  # miCOMPRESSED; bytes, twenty times what the published file unpacks to
FLAT, SPLIT, WITH_LABELS = "cars_annos.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"
cars = PublishedSet("cars", (FLAT, SPLIT), _read)
