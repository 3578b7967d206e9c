"""An index embedded anew by another model, beside the old one, which answers until the new one takes its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from dml.errors import user_files
from dml.index.approximate import FEWEST, make_approximate
from dml.index.building import finish_index
from dml.index.fingerprint import fingerprint_of
from dml.index.intake import Changes, build_items
from dml.index.layout import IndexFolder, read_info, settle, swap
from dml.index.searching import search_blocks
from dml.index.sources import Listed
from dml.index.store import Item, Store
from dml.index.writer import alone, create_index, open_writer
from dml.runs import load_model

__all__ = ["Upgrade", "upgrade_index"]

ASKED = 200  # images of the index that both models are asked for


@dataclass
class Upgrade:
    """What an upgrade did.

    items:      in the new index.
    embedded:   by this call; those before were embedded by one that was interrupted.
    unreadable: path -> why, of images that the new index lacks.
    changed:    share of first answers that are another image now, over some images of the index; None if it has one.
    """

    items: int = 0
    embedded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    changed: float | None = None


def upgrade_index(
    folder: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
    *,
    checkpoint: str = "best",
    device: torch.device | str = "cpu",
    trust: Sequence[str] = (),
) -> Upgrade:
    """Embed all images of an index by the model of another run; called again after a kill, it goes on.

    Items have new numbers afterwards, in the same order. What was removed takes no room any more.

    Args:
        run: a run folder; None is that of the index, as it is now.

    Raises:
        MissingFileError, InputError, OccupiedError, FileError: as `build_index`; the index stays as it was.
    """
    index = IndexFolder(Path(folder))
    info = read_info(index)
    run = info.run if run is None else run
    model = load_model(run, checkpoint=checkpoint, device=device, trust=trust)
    with alone(index):
        settle(index)
        old = Store(index.path)
        try:
            _prepare(index.next, fingerprint_of(model))
            if not index.next.info.exists():
                create_index(index.next, model, run=os.fspath(run), checkpoint=checkpoint, dtype=info.dtype)
            changes = Changes()
            with open_writer(index.next) as writer:
                listed = {item.path: _listed(item) for item in old.items()}
                changes.unreadable = {
                    path: "it is no longer there" for path, found in listed.items() if found is None
                }
                build_items(writer, model, [found for found in listed.values() if found is not None], changes)
                # What was removed and taken back since an upgrade that was interrupted.
                gone = [item.id for path, item in writer.known().items() if path not in listed]
                writer.take_back(listed)
                writer.remove(gone, leave_out=old.removed())
                writer.keep_apart(old.not_duplicates())
                items = finish_index(writer, run, checkpoint).items
                if info.approximate is not None and items >= FEWEST:
                    writer.finish(approximate=asdict(make_approximate(writer)))
            new = Store(index.next.path)
            changed = _changed(old, new)
            new.close()
        finally:
            old.close()
        with user_files(f"putting the upgraded {index} in place"):
            swap(index)
    return Upgrade(items, changes.added + changes.copied, changes.unreadable, changed)


def _prepare(next_: IndexFolder, fingerprint: str) -> None:
    """Keep what an interrupted upgrade to the same model has left, and nothing else."""
    if next_.path.exists() and (not next_.info.exists() or read_info(next_).fingerprint != fingerprint):
        shutil.rmtree(next_.path)


def _listed(item: Item) -> Listed | None:
    """The file of an item as it is now, with what was known of it."""
    try:
        status = os.stat(item.path)
    except OSError:
        return None
    return Listed(item.path, status.st_size, status.st_mtime_ns, item.label, item.columns, tabled=True)


def _changed(old: Store, new: Store) -> float | None:
    """The share of images, of some that both have, whose most similar other image is another one."""
    paths = {item.path: item.row for item in old.items()}
    both = [(paths[item.path], item.row) for item in new.items() if item.path in paths]
    if len(both) < 2:
        return None
    asked = both[:: max(1, len(both) // ASKED)][:ASKED]
    answers = [_first(old, [row for row, _ in asked]), _first(new, [row for _, row in asked])]
    return float(np.mean([a != b for a, b in zip(*answers, strict=True)]))


def _first(store: Store, rows: Sequence[int]) -> list[str]:
    """The path of the most similar other image for each of some rows."""
    found = search_blocks(store.vectors_of(rows), store.blocks(), 2, leave_out=store.deleted)
    firsts = [int(two[two != row][0]) for row, two in zip(rows, found.rows, strict=True)]
    items = store.items_of(set(firsts))
    return [items[row].path for row in firsts]
