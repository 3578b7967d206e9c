"""Your own images in tar or zip files, which are read in place.

CLASS/anything.jpg in them                 as for dataset=folder, with train/ and test/ above the classes or not
KEY.jpg, and KEY.cls, KEY.txt or KEY.json  the layout of webdataset
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dml.data.annotations import Annotations, Row, first_few
from dml.data.class_names import with_composed_labels
from dml.data.copies import warn_of_encoded_copies
from dml.data.dataset import Loading, train_test
from dml.data.encoded_images import EncodedImages
from dml.data.folder import warn_of_single_images
from dml.data.protocols import hashed_half
from dml.data.records import TrainTest
from dml.data.shard_files import find_shards, halves_of_shards, refuse_copies
from dml.data.shard_images import ShardImages
from dml.data.shard_index import Shard, look_through
from dml.data.shard_members import Member
from dml.distributed import is_main
from dml.errors import InputError

__all__ = ["shards"]

log = logging.getLogger(__name__)

SPLITS = ("given", "hash")


class _Found(NamedTuple):
    member: Member
    label: str
    shard: str  # its name
    number: int  # its place in the list of shards


def shards(
    root: str | Sequence[str],
    *,
    image: str | None = None,
    label: str | None = None,
    split: str = "given",
    short_side: int | None,
    cache: bool,
    cache_folder: str,
    check: bool | str = False,
) -> TrainTest:
    """All images of some tar and zip files as one set, in the order of their names.

    Args:
        root: a folder of shards, one shard, a pattern such as birds-*.tar or birds-{000..023}.tar, or a list of these.
        image: suffix of the images, where several files of one key are images.
        label: cls, txt or json, or a field of json, where there is a choice.
        split: "given" takes folders train and test in the shards, else the names of the shards (train-000.tar), else
            the hash of the name of the class; "hash" takes the hash whatever there is.
        short_side, cache, cache_folder, check: see Loading; the indexes of the shards are kept there too.

    Raises:
        MissingFileError: there are no such shards.
        InputError: a shard, a name, a label or the split is not accepted.
        FileError: a shard is damaged.
    """
    if split not in SPLITS:
        raise InputError(f"dataset.split={split}; accepted: {', '.join(SPLITS)}")
    paths = find_shards(root)
    index = partial(look_through, folder=Path(cache_folder) / "shards", image=image, label=label)
    with ThreadPoolExecutor() as pool:
        looked = list(pool.map(index, paths.values()))
    refuse_copies(looked)
    found = [
        _Found(member, text, name, number)
        for number, (name, shard) in enumerate(zip(paths, looked, strict=True))
        for member, text in shard.found.images
    ]
    if not found:
        raise InputError(f"dataset.root={root}: its {len(looked)} shards hold no images")
    found.sort(key=lambda image: (image.member.name, image.shard))
    rows = (_by_folder if _source(looked) == "" else _by_label)(found, split)
    rows = with_composed_labels(rows)
    _report(looked, len(found))
    images = ShardImages(looked, [(image.number, image.member) for image in found])
    warn_of_encoded_copies(f"dataset.root={root}", rows, images)
    warn_of_single_images(rows)
    loading = Loading(
        short_side=short_side,
        cache=cache,
        cache_folder=cache_folder,
        check=check,
        open_images=lambda folder, files, short_side: EncodedImages(images, short_side),
    )
    return train_test("shards", Annotations(Path(cache_folder), rows, ()), loading)


def _source(looked: Sequence[Shard]) -> str:
    """What tells the classes, the same in each shard that has images."""
    sources = {shard.found.source: shard.path for shard in looked if shard.found.images}
    if len(sources) > 1:
        told = "; ".join(
            f"{path} by {'.' + source + ' files' if source else 'folders'}"
            for source, path in sources.items()
        )
        raise InputError(
            f"the shards name classes in different ways: {told}. Give them apart, or write them alike"
        )
    return next(iter(sources))


def _by_folder(found: Sequence[_Found], split: str) -> list[Row]:
    paths = _below_common([image.member.name.split("/") for image in found])
    has_split = {path[0] for path in paths} == {"train", "test"}
    if loose := [_file(image) for image, path in zip(found, paths, strict=True) if len(path) < 2 + has_split]:
        raise InputError(
            f"{len(loose)} images of the shards lie outside of every class folder and have no .cls, .txt or .json "
            f"beside them, {first_few(loose)}: put each into a folder named after its class"
        )
    if has_split and split == "given":
        return [Row(_file(image), path[1], path[0]) for image, path in zip(found, paths, strict=True)]
    halves = {} if has_split or split == "hash" else _halves(found)
    return [_row(image, path[has_split], halves) for image, path in zip(found, paths, strict=True)]


def _by_label(found: Sequence[_Found], split: str) -> list[Row]:
    halves = {} if split == "hash" else _halves(found)
    return [_row(image, image.label, halves) for image in found]


def _below_common(paths: list[list[str]]) -> list[list[str]]:
    """Paths without the folders that all share, as an archive of one folder has; two parts are left at least."""
    while len({path[0] for path in paths}) == 1 and all(len(path) > 2 for path in paths):
        paths = [path[1:] for path in paths]
    return paths


def _halves(found: Sequence[_Found]) -> dict[str, str]:
    return halves_of_shards(sorted({image.shard for image in found}))


def _row(image: _Found, label: str, halves: Mapping[str, str]) -> Row:
    return Row(_file(image), label, halves.get(image.shard) or hashed_half(label))


def _file(image: _Found) -> str:
    return f"{image.shard}/{image.member.name}"


def _report(looked: Sequence[Shard], count: int) -> None:
    left_out = sum((Counter(shard.found.left_out) for shard in looked), Counter[str]())
    kinds = ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(left_out.items()))
    if is_main():
        said = f"; left out: {kinds}" if kinds else ""
        log.info("%s images in %s shards%s", f"{count:,}", f"{len(looked):,}", said)
