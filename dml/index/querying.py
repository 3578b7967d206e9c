"""Images that somebody searches with: files, and folders of files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dml.data.discovery import look_for_images
from dml.data.formats import HEIF
from dml.errors import FileError, InputError, MissingFileError
from dml.index.index import Index
from dml.index.printing import Answer
from dml.index.sources import NEEDS_HEIF

__all__ = ["answer_queries"]


def answer_queries(
    index: Index,
    named: Sequence[str],
    k: int | None = None,
    *,
    above: float | None = None,
    label: str | None = None,
) -> tuple[list[Answer], dict[str, str]]:
    """What is found for each image that is named, alone or in a folder, and path -> reason for what is unreadable.

    Raises:
        MissingFileError: one is not there.
        InputError: a folder without images, or as `Index.search`.
        FileError: none of them can be read as an image.
    """
    paths, unreadable = _list(named)
    bad: dict[int, str] = {}
    vectors = index.model.embed(paths, unreadable=bad).numpy()
    unreadable |= {paths[number]: reason for number, reason in bad.items()}
    good = [path for number, path in enumerate(paths) if number not in bad]
    if not good:
        raise FileError("no query can be read: " + "; ".join(unreadable.values()))
    found = index.search_vectors(vectors, k, above=above, label=label)
    return [Answer(path, hits) for path, hits in zip(good, found, strict=True)], unreadable


def _list(named: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    paths: list[str] = []
    unreadable: dict[str, str] = {}
    for name in named:
        if not os.path.exists(name):
            raise MissingFileError(f"{name} is not there: give images, or folders of images, to search with")
        if not os.path.isdir(name):
            paths.append(name)
            continue
        found = look_for_images(name)
        unreadable |= {os.path.join(name, file): NEEDS_HEIF for file in found.left_out.pop(HEIF, ())}
        unreadable |= {os.path.join(name, file): reason for file, reason in found.unreadable.items()}
        if not found.files and not unreadable:
            raise InputError(f"{name} holds no images: give a folder with images to search with")
        paths += [os.path.join(name, file) for file in found.files]
    return list(dict.fromkeys(paths)), unreadable
