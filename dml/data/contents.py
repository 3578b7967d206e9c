"""What a data set consists of, as a checkpoint keeps it: the names of the classes, and hashes of files and labels.

The content of the files is left alone: looking at it would cost more than a resumed run is worth.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from dml.data.annotations import first_few
from dml.data.class_names import composed
from dml.data.records import Records, Splits

__all__ = ["Contents", "PartContents", "contents", "contents_differences"]


class PartContents(TypedDict):
    """classes: a hash of the files of each class, in the order of the labels; images: one of all, in their order."""

    classes: dict[str, str]
    images: str


Contents = dict[str, PartContents]
"""By the names of the parts: train, test, and val where it is not train."""


def contents(splits: Splits) -> Contents:
    """What the parts of a data set consist of, in plain values."""
    parts = {"train": splits.train, **splits.measured}
    return {name: _contents(records) for name, records in parts.items()}


def _contents(records: Records) -> PartContents:
    whole = hashlib.sha256()
    classes: defaultdict[int, Any] = defaultdict(hashlib.sha256)
    roles = [""] * len(records) if records.is_query is None else records.is_query.tolist()
    for label, file, role in zip(records.labels.tolist(), records.files, roles, strict=True):
        image = f"{composed(file)}\0{role}\0".encode(errors="surrogateescape")
        classes[label].update(image)
        whole.update(f"{label}\0".encode() + image)
    names = enumerate(records.class_names)
    return {
        "classes": {name: classes[label].hexdigest()[:16] for label, name in names},
        "images": whole.hexdigest(),
    }


def contents_differences(before: Mapping[str, PartContents], after: Mapping[str, PartContents]) -> list[str]:
    """What changed, a sentence a part and kind of change, for the parts that both have."""
    return [
        f"{part}: {change}"
        for part in before
        if part in after and before[part] != after[part]
        for change in _changes(before[part], after[part])
    ]


def _changes(before: PartContents, after: PartContents) -> Iterator[str]:
    old, new = before["classes"], after["classes"]
    gone, added = [name for name in old if name not in new], [name for name in new if name not in old]
    changed = [name for name in old if name in new and old[name] != new[name]]
    if gone:
        yield f"{len(gone):,} of {len(old):,} classes are gone, {first_few(gone)}"
    if added:
        yield f"{len(added):,} classes are new, {first_few(added)}"
    if changed:
        yield f"{len(changed):,} classes have other images, or the same by other names, {first_few(changed)}"
    if not (gone or added or changed):
        yield "classes or images come in another order"
