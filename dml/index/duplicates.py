"""Images of an index that are the same, byte for byte or nearly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.data import decode
from dml.errors import InputError, UserError
from dml.index.copies import SAMPLE, copy_threshold
from dml.index.grouping import group_pairs
from dml.index.index import Index
from dml.index.layout import IndexFolder
from dml.index.near_pairs import Pixels, Queries, near_pairs, turned_queries
from dml.index.store import Item, Store
from dml.index.writer import alone, open_writer
from dml.progress import progress

__all__ = ["Duplicates", "find_duplicates", "keep_apart", "own_threshold"]

T = TypeVar("T", int, str)


@dataclass(frozen=True)
class Duplicates:
    """Groups of images that are the same.

    above:  the similarity that each pair of a group has at least.
    groups: of two images or more, sorted by path.
    pairs:  two items of different content and their similarity, the most similar ones first.
    """

    above: float
    groups: Sequence[Sequence[Item]]
    pairs: Sequence[tuple[Item, Item, float]]


def find_duplicates(index: Index, *, above: float | None = None, turned: bool = False) -> Duplicates:
    """Groups of images in which each is a copy of each other; an image is in one group at most.

    Files with the same bytes are always of one group. Pairs of which `keep_apart` was told are never.

    Args:
        above: a similarity, by which alone pairs are told; None measures it on copies that are made of images of the
            index, and compares the pixels of what reaches it, since unrelated images may be as similar as copies are.
        turned: find copies that are mirrored or turned by a quarter, too, for which all images are embedded in seven
            further ways.

    Raises:
        InputError: the similarity is not between -1 and 1, or so low that all hangs together.
    """
    by_pixels = above is None
    if above is None:
        above = own_threshold(index)
    if not -1 <= above <= 1 + 1e-6:
        raise InputError(f"above={above}: a similarity lies between -1 and 1")
    contents = _by_content(index.store)
    similar = _similar(index, contents, above, by_pixels=by_pixels, turned=turned)
    names = list(contents)
    numbered = {name: number for number, name in enumerate(names)}
    pairs = {_ordered(numbered[a], numbered[b]): score for (a, b), score in similar.items()}
    grouped = group_pairs(names, pairs)
    in_groups = {number for group in grouped for number in group}
    alone = [
        [number] for number, name in enumerate(names) if number not in in_groups and len(contents[name]) > 1
    ]
    groups = [
        sorted((item for number in group for item in contents[names[number]]), key=lambda item: item.path)
        for group in grouped + alone
    ]
    listed = [(contents[a][0], contents[b][0], score) for (a, b), score in similar.items()]
    return Duplicates(
        above,
        sorted(groups, key=lambda group: group[0].path),
        sorted(listed, key=lambda pair: (-pair[2], pair[0].path, pair[1].path)),
    )


def own_threshold(index: Index) -> float:
    """The similarity from which on an image is a copy, measured on copies of some images of the index.

    Raises:
        InputError: none of their files can be read any more.
    """
    items = list(index.store.items())
    images = []
    for item in items[:: max(1, len(items) // SAMPLE)][:SAMPLE]:
        if (image := _image(item.path)) is not None:
            images.append(image)
    if not images:
        raise InputError(
            f"no file of {index.store.folder} can be read, so no copies can be made to measure from which similarity "
            "on an image is one: give it by --above"
        )
    return copy_threshold(index.model, images)


def keep_apart(folder: str, paths: Sequence[str]) -> None:
    """Remember that some images are no duplicates of each other, by their content.

    Raises:
        InputError: fewer than two, or one is not in the index.
    """
    index = IndexFolder(Path(folder))
    with alone(index), open_writer(index) as writer:
        found = {item.path: item.sha256 for item in writer.items_with("path", list(paths))}
        if missing := [path for path in paths if path not in found]:
            raise InputError(f"{missing[0]} is not in {folder}: give paths as `dml duplicates` prints them")
        if len(set(found.values())) < 2:
            raise InputError(
                "give two images or more, of different content, that are no duplicates of each other"
            )
        hashes = sorted(set(found.values()))
        writer.keep_apart((a, b) for i, a in enumerate(hashes) for b in hashes[i + 1 :])


def _by_content(store: Store) -> dict[str, list[Item]]:
    """Items by the hash of their file, in the order of the hashes; the first stands for all."""
    found = defaultdict(list)
    for item in store.items():
        found[item.sha256].append(item)
    return {name: found[name] for name in sorted(found)}


def _similar(
    index: Index, contents: dict[str, list[Item]], above: float, *, by_pixels: bool, turned: bool
) -> dict[tuple[str, str], float]:
    """Pairs of contents, in the order of their hashes, that are alike and were not told to be kept apart."""
    store = index.store
    content_of = {items[0].row: name for name, items in contents.items()}
    first_of_its_content = np.zeros(store.rows, bool)
    first_of_its_content[list(content_of)] = True

    def is_pair(own: NDArray[np.int64], rows: NDArray[np.int64], way: int) -> NDArray[np.bool_]:
        wanted = own != rows if way else own < rows
        return wanted & first_of_its_content[own] & first_of_its_content[rows]

    def image(row: int) -> Image.Image | None:
        return _image(contents[content_of[row]][0].path)

    def queries() -> Iterator[Queries]:
        with progress("comparing", store.rows) as advance:
            for start, vectors in store.blocks():
                yield Queries(vectors, np.arange(start, start + len(vectors)))
                advance(len(vectors))
        if turned:
            yield from turned_queries(index.model, image, np.flatnonzero(first_of_its_content))

    pixels = Pixels(image) if by_pixels else None
    near = near_pairs(queries(), store.blocks, above, is_pair=is_pair, pixels=pixels)
    apart = store.not_duplicates()
    named = {
        _ordered(content_of[i], content_of[j]): score
        for (i, j), score in zip(near.rows.tolist(), near.similarities.tolist(), strict=True)
    }
    return {pair: score for pair, score in named.items() if pair not in apart}


def _image(path: str) -> Image.Image | None:
    try:
        return Image.fromarray(decode(path))
    except UserError:
        return None


def _ordered(a: T, b: T) -> tuple[T, T]:
    return (a, b) if a < b else (b, a)
