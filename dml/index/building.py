"""Make an index of images by the model of a run, take further ones into it, and remove some."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from dml.errors import InputError
from dml.index.approximate import is_outgrown, make_approximate
from dml.index.calibration_file import calibration_for
from dml.index.intake import Changes, build_items
from dml.index.layout import IndexFolder, IndexInfo, read_info, settle
from dml.index.sources import list_sources
from dml.index.writer import Writer, alone, check_model, create_index, open_writer
from dml.runs import load_model
from dml.shared_models import lasting_name

__all__ = ["add_to_index", "build_index", "finish_index", "remove_from_index"]

Path_ = str | os.PathLike[str]


def build_index(
    run: Path_,
    sources: Iterable[Path_],
    folder: Path_,
    *,
    checkpoint: str = "best",
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    trust: Sequence[str] = (),
    take_back: bool = False,
    approximate: bool = False,
) -> Changes:
    """Embed all images of folders, files and tables by the model of a run, into a new index or into one of this model.

    Called again, it takes in what is new or changed. Items whose files are gone stay: see `remove_from_index`.

    Args:
        take_back: take in also what was removed by its path; without it, that is left out.
        approximate: prepare a search that looks at a part of the vectors, and measure what it finds. Once there, it is
            kept up by further calls.

    Raises:
        MissingFileError, InputError: no run, no images, another model than that of the index, or a damaged index.
        OccupiedError: the folder holds something else, or another process is changing the index.
        FileError: the disk is full, or whatever else the system says; what was committed is kept.
    """
    found = list_sources(sources)
    index = IndexFolder(Path(folder))
    model = load_model(run, checkpoint=checkpoint, device=device, trust=trust)
    with alone(index):
        settle(index)
        if not index.info.exists():
            create_index(index, model, run=os.fspath(run), checkpoint=checkpoint, dtype=dtype)
        with open_writer(index) as writer:
            check_model(writer, model)
            changes = Changes()
            if take_back:
                writer.take_back(found.files)
            removed = writer.removed()
            files = [listed for path, listed in found.files.items() if path not in removed]
            changes.removed = len(found.files) - len(files)
            try:
                build_items(writer, model, files, changes)
            finally:
                info = finish_index(writer, run, checkpoint)
                changes.items = info.items
            if approximate or is_outgrown(info, writer.rows):
                recall = make_approximate(writer)
                changes.recall = writer.finish(approximate=asdict(recall)).approximate
    changes.unreadable = {**found.unreadable, **changes.unreadable}
    changes.left_out = found.left_out
    return changes


def finish_index(writer: Writer, run: Path_, checkpoint: str) -> IndexInfo:
    """Say in index.json where the model is now, with the threshold that it has."""
    calibration = calibration_for(writer.info, run)
    return writer.finish(
        run=lasting_name(run),
        checkpoint=checkpoint,
        calibration=None if calibration is None else asdict(calibration),
    )


def add_to_index(
    folder: Path_, sources: Iterable[Path_], *, device: torch.device | str = "cpu", trust: Sequence[str] = ()
) -> Changes:
    """Take images into an index by the model that made it, also those that were removed; else as build_index."""
    index = IndexFolder(Path(folder))
    info = read_info(index)
    return build_index(
        info.run, sources, folder, checkpoint=info.checkpoint, device=device, trust=trust, take_back=True
    )


def remove_from_index(
    folder: Path_, paths: Iterable[Path_] = (), *, missing: bool = False
) -> tuple[list[str], int]:
    """Remove images: files, or all below folders, whether they still exist or not.

    Returns the paths that went, and how many images are left. Where `paths` named them, they stay removed, whatever
    lies there later, until `add_to_index` is given them.

    Args:
        missing: all whose files are no longer there, too; these come back with their files.

    Raises:
        InputError: one of the paths is not in the index; nothing is removed.
    """
    index = IndexFolder(Path(folder))
    read_info(index)
    with alone(index):
        settle(index)
        with open_writer(index) as writer:
            known = writer.known()
            gone: dict[str, int] = {}
            for path in map(os.path.abspath, paths):
                below = [
                    name for name in known if name == path or name.startswith(path.rstrip(os.sep) + os.sep)
                ]
                if not below:
                    raise InputError(
                        f"{path} is not in {folder}, nothing was removed: give paths that `search` prints"
                    )
                gone.update((name, known[name].id) for name in below)
            named = list(gone)
            if missing:
                gone.update((name, item.id) for name, item in known.items() if not os.path.exists(name))
            writer.remove(gone.values(), leave_out=named)
            left = writer.finish().items
    return sorted(gone), left
