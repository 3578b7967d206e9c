"""Which files make up a set of shards, each once, and which half their names put them into."""

from __future__ import annotations

import filecmp
import glob
import os
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from dml.data.annotations import first_few
from dml.data.shard_index import Shard
from dml.errors import FileError, InputError, MissingFileError

__all__ = ["find_shards", "halves_of_shards", "refuse_copies"]

SHARD = re.compile(
    r".*\.(tar|zip|tgz|tbz2?|txz|tzst|(tar|zip)\.(gz|bz2|xz|zst|lz4|partial|part|tmp|crdownload|download))",
    re.IGNORECASE,
)  # what is compressed or not whole is found too, and refused by name when it is opened
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_SHARDS = 1_000_000
SPLIT = re.compile(r"(train|test|validation|valid|val|dev|query|gallery)(?![a-z])", re.IGNORECASE)


def find_shards(root: str | Sequence[str]) -> dict[str, Path]:
    """The shards of a folder, of a pattern, or of a list of these, by name, in the order of their names.

    Raises:
        MissingFileError: nothing is there, or less than a range asks for.
        InputError: a file comes twice.
    """
    found: dict[Path, None] = {}
    for place in [root] if isinstance(root, str) else root:
        found.update(dict.fromkeys(_shards_at(place)))
    if not found:
        raise MissingFileError(f"dataset.root={root} holds no .tar or .zip files: give a folder that does")
    by_file: dict[Path, Path] = {}
    for path in sorted(found):
        if (other := by_file.setdefault(path.resolve(), path)) != path:
            raise InputError(
                f"{other} and {path} are one file: its images would count twice; remove one of them"
            )
    base = Path(os.path.commonpath([path.parent for path in found]))
    return {path.relative_to(base).as_posix(): path for path in sorted(found)}


def _shards_at(place: str) -> Iterator[Path]:
    path = Path(os.path.abspath(Path(place).expanduser()))
    if path.is_dir():
        yield from _shards_below(path)
    elif path.is_file():
        yield path
    else:
        for pattern in _ranges(str(path)):
            files = [Path(file) for file in glob.glob(pattern, recursive=True)]
            if not files:
                raise MissingFileError(
                    f"dataset.root={place}: nothing is at {pattern}; give a folder of .tar or .zip files, one of them, "
                    "or a pattern with * or {000..023}"
                )
            yield from (file for file in files if file.is_file())


def _shards_below(folder: Path) -> Iterator[Path]:
    """At any depth, each real folder once; hidden ones are left out."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(place, name) for name in files if SHARD.fullmatch(name) and name[0] != ".")
        seen.add(real)


def _unreadable(error: OSError) -> NoReturn:
    raise FileError(
        f"{error.filename} cannot be looked through: {error.strerror}; make it readable or move it away"
    )


def _ranges(pattern: str) -> Iterator[str]:
    """A pattern for each number of a range: {08..10} stands for 08, 09 and 10."""
    match = RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = match.groups()
    if not int(first) <= int(last) < int(first) + MOST_SHARDS:
        raise InputError(
            f"dataset.root={pattern}: the range {match.group()} is no range of shards, such as {{000..023}}"
        )
    for number in range(int(first), int(last) + 1):
        yield from _ranges(f"{pattern[: match.start()]}{number:0{len(first)}d}{pattern[match.end() :]}")


def halves_of_shards(names: Sequence[str]) -> dict[str, str]:
    """The half of each shard, if all have one in their name or folder: train-000.tar, test/000.tar.

    Raises:
        InputError: some are named after another split, or after none.
    """
    halves = {name: _half(name) for name in names}
    said = {half for half in halves.values() if half}
    if not said & {"train", "test"}:
        return {}
    if said != {"train", "test"} or not all(halves.values()):
        others = [name for name, half in halves.items() if half not in ("train", "test")]
        raise InputError(
            f"the shards are named after {' and '.join(sorted(said))}"
            + (f", but {len(others)} are neither train nor test, {first_few(others)}" if others else " alone")
            + ": name each after train or test, or let the names of the classes decide by dataset.split=hash"
        )
    return halves


def _half(name: str) -> str:
    found = [match.group(1).lower() for part in name.split("/") if (match := SPLIT.match(part))]
    return found[-1] if found else ""


def refuse_copies(shards: Sequence[Shard]) -> None:
    """Raise InputError for two shards of equal content, whose images would count twice."""
    by_content = sorted(shards, key=lambda shard: (shard.content, shard.path))
    for _, group in groupby(by_content, key=lambda shard: shard.content):
        first, *others = group
        for other in others:
            if filecmp.cmp(first.path, other.path, shallow=False):
                raise InputError(f"{first.path} and {other.path} have equal content: remove one of them")
