"""Where the tables of the `datasets` library come from: the Hub, a folder of save_to_disk, parquet or arrow files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from dml.data.shard_files import halves_of_shards
from dml.errors import ConfigError, FileError, MissingFileError

__all__ = ["import_datasets", "open_sets"]

ON_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # USER/SET
COMMIT = re.compile(r"[0-9a-f]{40}")
UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, TypeError)  # errors of pyarrow are of these
WHOLE = "rows"  # the split of files that are not named after one


def import_datasets() -> Any:
    """The library, which is an extra of this package; before its version 4 it could run code that a set brings."""
    try:
        library = import_module("datasets")
    except ImportError as error:
        raise ConfigError(
            "dataset=hub needs the library datasets, which is not installed: pip install 'datasets>=4'"
        ) from error
    if int(library.__version__.split(".")[0]) < 4:
        raise ConfigError(
            f"dataset=hub needs the library datasets from version 4 on, and {library.__version__} is installed: "
            "pip install --upgrade datasets"
        )
    return library


def open_sets(
    name: str, *, config: str | None, revision: str | None, split: str, folder: Path
) -> Mapping[str, Any]:
    """The tables of a set by the names of their splits. No code of the set is run.

    Args:
        name: a folder, or USER/SET on the Hub.
        config: which of several configurations on the Hub.
        revision: its commit on the Hub.
        split: "hash" leaves alone what files are called.
        folder: keeps what the library makes of parquet files.

    Raises:
        MissingFileError: there is no such folder, or nothing in it.
        ConfigError: a revision is needed, or there is none to give.
        InputError: the files are named after another split than train and test.
        FileError: the set cannot be had or read.
    """
    library = import_datasets()
    place = Path(name).expanduser()
    if place.is_dir():
        if revision or config:
            raise ConfigError(
                f"dataset.name={name} is a folder: leave out dataset.revision and dataset.config, which are for the Hub"
            )
        return _local(library, place, split, folder)
    if not ON_HUB.fullmatch(name):
        raise MissingFileError(
            f"dataset.name={name} is no folder and no USER/SET of the Hub: give one that save_to_disk wrote or that "
            "holds parquet or arrow files, or the name of a set"
        )
    return _remote(library, name, config, _commit(name, revision))


def _local(library: Any, place: Path, split: str, folder: Path) -> Mapping[str, Any]:
    saved = any((place / file).is_file() for file in ("dataset_dict.json", "state.json"))
    kind, files = ("", {}) if saved else _files(place, split)
    try:
        if saved:
            found = library.load_from_disk(str(place), keep_in_memory=False)
        else:
            found = library.load_dataset(kind, data_files=files, cache_dir=str(folder), keep_in_memory=False)
    except UNREADABLE as error:
        raise FileError(
            f"dataset.name={place} cannot be read: {error}; a file is damaged or was not written whole: write it again"
        ) from error
    return dict(found) if isinstance(found, dict) else {WHOLE: found}


def _files(place: Path, split: str) -> tuple[str, dict[str, list[str]]]:
    files = {
        path.relative_to(place).as_posix(): path
        for path in sorted(place.rglob("*"))
        if path.suffix in (".parquet", ".arrow") and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
    }  # fmt: skip
    kinds = {path.suffix for path in files.values()}
    if len(kinds) != 1:
        raise MissingFileError(
            f"dataset.name={place} holds "
            + ("both parquet and arrow files: move one kind away" if kinds else "no parquet or arrow files")
            + "; accepted: such files of one kind, or what save_to_disk of the library datasets wrote"
        )
    halves = halves_of_shards(list(files)) if split == "given" else {}
    found = defaultdict(list)
    for name, path in files.items():
        found[halves.get(name, WHOLE)].append(str(path))
    return kinds.pop()[1:], dict(found)


def _commit(name: str, revision: str | None) -> str:
    """The revision, if it cannot change: a branch or none may mean other images tomorrow."""
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    try:
        from huggingface_hub import HfApi

        newest = f"; at present that is {HfApi().dataset_info(name, revision=revision).sha}"
    except Exception as error:  # the hint is all that is lost
        newest = f" (it could not be looked up: {error})"
    raise ConfigError(
        f"dataset.revision={revision}: what lies at {name} on the Hub can change, so give the commit, 40 hexadecimal "
        f"digits, by dataset.revision=COMMIT{newest}"
    )


def _remote(library: Any, name: str, config: str | None, commit: str) -> Mapping[str, Any]:
    try:
        found = library.load_dataset(name, config, revision=commit, keep_in_memory=False, streaming=False)
    except UNREADABLE as error:
        raise FileError(
            f"dataset.name={name} at {commit} cannot be had: {error}. Without a network it has to be in the cache of "
            "the library datasets already; sets that bring code are not run"
        ) from error
    return dict(found)
