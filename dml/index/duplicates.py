"""Images of an index that are the same, byte for byte or nearly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.data import decode, read_ahead
from dml.errors import InputError, UserError
from dml.index.copies import LIKE, SAMPLE, copy_threshold, likeness, outlines
from dml.index.grouping import group_pairs
from dml.index.index import Index
from dml.index.layout import IndexFolder
from dml.index.searching import pairs_above
from dml.index.store import Item, Store
from dml.index.writer import alone, open_writer
from dml.progress import progress

__all__ = ["Duplicates", "find_duplicates", "keep_apart", "own_threshold"]

AHEAD = 64  # images that wait to be compared


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


def find_duplicates(index: Index, *, above: float | None = None) -> Duplicates:
    """Groups of images in which each is a copy of each other; an image is in one group at most.

    Files with the same bytes are always of one group. Pairs of which `keep_apart` was told are never.

    Args:
        above: a similarity, by which alone pairs are told; None measures it on copies that are made of images of the
            index, and compares the pixels of what reaches it, since unrelated images may be as similar as copies are.

    Raises:
        InputError: the similarity is not between -1 and 1, or so low that all hangs together.
    """
    by_pixels = above is None
    if above is None:
        above = own_threshold(index)
    if not -1 <= above <= 1 + 1e-6:
        raise InputError(f"above={above}: a similarity lies between -1 and 1")
    contents = _by_content(index.store)
    similar = _similar(index.store, contents, above)
    if by_pixels:
        similar = _with_like_pixels(similar, contents)
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
        try:
            images.append(Image.fromarray(decode(item.path)))
        except UserError:
            continue
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


def _similar(store: Store, contents: dict[str, list[Item]], above: float) -> dict[tuple[str, str], float]:
    """Pairs of contents, in the order of their hashes, that are alike and were not told to be kept apart."""
    content_of = {items[0].row: name for name, items in contents.items()}
    apart = store.not_duplicates()
    found: dict[tuple[str, str], float] = {}
    for start, vectors in store.blocks():
        rows = pairs_above(vectors, start, (block for block in store.blocks() if block[0] >= start), above)
        for i, j, score in zip(*(part.tolist() for part in rows), strict=True):
            if i in content_of and j in content_of:
                a, b = sorted((content_of[i], content_of[j]))
                if (a, b) not in apart:
                    found[a, b] = score
    return found


def _with_like_pixels(
    similar: dict[tuple[str, str], float], contents: dict[str, list[Item]]
) -> dict[tuple[str, str], float]:
    """The pairs whose pixels are alike, too; without those whose files cannot be read any more."""
    names = sorted({name for pair in similar for name in pair})
    outlined: dict[str, NDArray[np.float32]] = {}
    with progress("comparing", len(names)) as advance:
        found = read_ahead(names, lambda name: _outlines(contents[name][0].path), ahead=AHEAD)
        for name, outline in zip(names, found, strict=True):
            advance(1)
            if outline is not None:
                outlined[name] = outline
    known = {pair: score for pair, score in similar.items() if outlined.keys() >= set(pair)}
    return {(a, b): score for (a, b), score in known.items() if likeness(outlined[a], outlined[b]) >= LIKE}


def _outlines(path: str) -> NDArray[np.float32] | None:
    try:
        return outlines(Image.fromarray(decode(path)))
    except UserError:
        return None


def _ordered(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)
