"""The embedded data set: the same emoji drawn by eight vendors, 64 × 64 on white.

The folder holds one archive of lossless WebP images and one table; NOTICE names authors and licences.
scripts/build_emoji.py makes all three.
"""

from __future__ import annotations

import csv
import io
import shlex
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dml.data.protocols import hashed_half
from dml.data.records import Records, TrainTest
from dml.data.sharing import SharedImages
from dml.errors import InputError, MissingFileError
from dml.installation import EMOJI

__all__ = ["ARCHIVE", "COLUMNS", "SIZE", "TABLE", "EmojiImages", "emoji_dataset", "read_emoji"]

IN_A_CHECKOUT = Path("data/emoji")
ARCHIVE, TABLE = "emoji.zip", "emoji.csv"
COLUMNS = ("file", "class", "style", "group", "split")
SIZE = 64
LARGEST = 2**16  # bytes of an image in its file; of pixels it has 12,288


@dataclass(frozen=True, eq=False)
class EmojiImages:
    """All images in memory, one row of the table each, in the order of the table.

    images:      (n, 64, 64, 3) uint8, RGB.
    labels:      (n,) int64, index into class_names.
    class_names: every class once, sorted.
    files, styles, groups, splits: n strings each: name inside the archive, the vendor's style, Unicode group,
                 "train" or "test".
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    styles: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]


def emoji_dataset(root: str | Path) -> TrainTest:
    """The embedded data set, split by class; errors as in read_emoji."""
    read = read_emoji(root)
    everything = Records(
        SharedImages(read.images), np.arange(len(read.labels)), read.labels, read.class_names, read.files
    )
    halves = {
        half: [name for name in read.class_names if hashed_half(name) == half] for half in ("train", "test")
    }
    return TrainTest(everything.select_classes(halves["train"]), everything.select_classes(halves["test"]))


def read_emoji(root: str | Path) -> EmojiImages:
    """Decode the whole data set into memory; no file is opened afterwards.

    Where a checkout has it, in ``data/emoji``, and no such folder is there, the set that comes with dml is read.

    Raises MissingFileError where the archive or the table is missing, InputError where the table has other
    columns, names a file twice, or names one that the archive lacks.
    """
    root = Path(root)
    if root == IN_A_CHECKOUT and not root.exists():
        root = EMOJI
    for name in (ARCHIVE, TABLE):
        if not (root / name).is_file():
            raise MissingFileError(
                f"{root / name} is missing: it is part of dml: install it again, or `git checkout data/emoji` in a "
                f"checkout, where it is built anew by: "
                f"{shlex.join(['python', 'scripts/build_emoji.py', '--output', str(root)])}"
            )
    rows = _read_table(root / TABLE)
    class_names = tuple(sorted({row["class"] for row in rows}))
    index = {name: i for i, name in enumerate(class_names)}
    return EmojiImages(
        images=_decode(root / ARCHIVE, [row["file"] for row in rows]),
        labels=np.array([index[row["class"]] for row in rows], dtype=np.int64),
        class_names=class_names,
        files=tuple(row["file"] for row in rows),
        styles=tuple(row["style"] for row in rows),
        groups=tuple(row["group"] for row in rows),
        splits=tuple(row["split"] for row in rows),
    )


def _read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{path} has the columns {reader.fieldnames}; expected {list(COLUMNS)}")
        rows = list(reader)
    seen: set[str] = set()
    for row in rows:
        if row["file"] in seen:
            raise InputError(f"{path} names {row['file']} twice; each image has one row")
        seen.add(row["file"])
    return rows


def _decode(path: Path, files: Sequence[str]) -> npt.NDArray[np.uint8]:
    images = np.empty((len(files), SIZE, SIZE, 3), dtype=np.uint8)

    def decode(i: int, content: bytes) -> None:
        with Image.open(io.BytesIO(content), formats=["WEBP", "PNG"]) as image:
            if image.size != (SIZE, SIZE):
                raise InputError(
                    f"{path} has {files[i]} of {image.size} pixels; each image has {SIZE} × {SIZE}"
                )
            images[i] = np.asarray(image.convert("RGB"))

    with zipfile.ZipFile(path) as archive, ThreadPoolExecutor() as pool:
        members = set(archive.namelist())
        for file in files:
            if file not in members:
                raise InputError(
                    f"{path} has no {file}, which {TABLE} names; build both anew or check them out"
                )
        if large := [member.filename for member in archive.infolist() if member.file_size > LARGEST]:
            raise InputError(
                f"{path} has {large[0]}, which unpacks to more than {LARGEST:,} bytes: check it out anew"
            )
        if unnamed := sorted(members - set(files)):
            raise InputError(
                f"{path} has {len(unnamed)} images that {TABLE} does not name, the first is {unnamed[0]}: the table "
                "may have been cut; build both anew or check them out"
            )
        list(pool.map(decode, range(len(files)), map(archive.read, files)))
    return images
