"""What the members of a shard say of its images: the layout of webdataset, or folders that are classes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from dml.data.annotations import refuse_outside
from dml.data.discovery import OF_THE_SYSTEM, refuse_unread
from dml.data.formats import HEIF_SUFFIXES, readable_suffixes
from dml.data.shard_members import Member
from dml.errors import InputError

__all__ = ["Labelled", "label_members"]

SIDES = ("cls", "json", "txt")  # files beside an image that say its class, in webdataset
FIELDS = ("label", "class", "class_name", "cls", "category")
LONGEST = 2**20  # bytes of such a file


class Labelled(NamedTuple):
    """The images of a shard.

    images:   each with its label; "" where the folders tell.
    source:   what the labels come from: "cls", "txt", "json", or "" for the folders.
    left_out: number of other files by suffix.
    """

    images: list[tuple[Member, str]]
    source: str
    left_out: dict[str, int]


def label_members(
    members: Sequence[Member],
    read: Callable[[Member], bytes],
    *,
    shard: str,
    image: str | None,
    label: str | None,
) -> Labelled:
    """Images and labels of a shard.

    Files that share their path up to the first dot of the name belong together, as in webdataset: KEY.jpg, KEY.cls.

    Args:
        read: the content of a member.
        image: suffix of the images, where several belong together.
        label: cls, txt or json, or the field of json; None: what there is.

    Raises:
        InputError: names that are no text or lead outside or come twice; an image without a label, or with several.
    """
    members = [member._replace(name=_checked(member.name, shard)) for member in members]
    if twice := [name for name, count in Counter(member.name for member in members).items() if count > 1]:
        raise InputError(
            f"{shard} holds {len(twice)} files twice, such as {twice[0]!r}: write it with each once"
        )
    images = [member for member in members if _is_image(member.name, image)]
    unread = [m.name for m in images if PurePosixPath(m.name).suffix.lower() not in readable_suffixes()]
    refuse_unread(shard, {}, unread if image is None else (), len(images) - len(unread))
    keys = Counter(_key(member.name)[0] for member in images)
    sides: dict[str, dict[str, Member]] = defaultdict(dict)
    for member in members:
        key, suffix = _key(member.name)
        if suffix in SIDES and key in keys:
            sides[key][suffix] = member
    left_out = Counter(PurePosixPath(m.name).suffix.lower() or "no suffix" for m in members)
    left_out.subtract(PurePosixPath(member.name).suffix.lower() for member in images)
    if not sides and label is None:
        return Labelled([(member, "") for member in images], "", dict(+left_out))
    if several := next((key for key, count in keys.items() if count > 1), None):
        found = ", ".join(_key(member.name)[1] for member in images if _key(member.name)[0] == several)
        raise InputError(
            f"{shard}: {several!r} has several images, {found}: choose those of one suffix by dataset.image=SUFFIX"
        )
    source = _source(sides, label, shard)
    left_out.subtract({f".{source}": sum(source in found for found in sides.values())})
    labelled = []
    for member in images:
        side = sides[_key(member.name)[0]].get(source)
        if side is None:
            raise InputError(f"{shard}: {member.name!r} has no .{source} beside it that says its class")
        labelled.append((member, _label(side, read, source, label, f"{shard}: {side.name!r}")))
    return Labelled(labelled, source, dict(+left_out))


def _checked(name: str, shard: str) -> str:
    """The path without ``./``; nothing is unpacked, yet a name that leads elsewhere is a sign of tampering."""
    if any("\udc80" <= letter <= "\udcff" for letter in name):  # how Python holds what it cannot decode
        raise InputError(
            f"{shard} holds {name!r}, whose name cannot be read as UTF-8: write it with another name"
        )
    plain = PurePosixPath(name).as_posix()
    refuse_outside(plain, shard)
    return plain


def _is_image(name: str, image: str | None) -> bool:
    path = PurePosixPath(name)
    if any(part.startswith(".") or part.lower() in OF_THE_SYSTEM for part in path.parts):
        return False
    if image is not None:
        return _key(name)[1] == image.lower().lstrip(".")
    return path.suffix.lower() in readable_suffixes() | HEIF_SUFFIXES


def _key(name: str) -> tuple[str, str]:
    """What the files of one sample share, and what is left: folder/1, left.jpg of folder/1.left.jpg."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return folder + slash + stem, suffix.lower()


def _source(sides: Mapping[str, Mapping[str, Member]], label: str | None, shard: str) -> str:
    if label is not None:
        return label if label in SIDES else "json"
    found = sorted({suffix for side in sides.values() for suffix in side})
    if "cls" in found or len(found) == 1:
        return "cls" if "cls" in found else found[0]
    raise InputError(
        f"{shard} has {' and '.join('.' + suffix for suffix in found)} beside its images: say which holds the class by "
        "dataset.label=txt or dataset.label=FIELD of json"
    )


def _label(side: Member, read: Callable[[Member], bytes], source: str, label: str | None, place: str) -> str:
    if side.size > LONGEST:
        raise InputError(f"{place} has {side.size:,} bytes, which is no label")
    try:
        text = read(side).decode("utf-8-sig").strip()
        value = json.loads(text) if source == "json" else text
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is no {source} in UTF-8: {error}; write the shard again") from error
    if isinstance(value, dict):
        value = _field(value, None if label in SIDES else label, place)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InputError(f"{place} gives {value!r} as the class; accepted: a text or a whole number")
    name = str(value).strip()
    if not name or "\n" in name:
        raise InputError(f"{place} gives {name[:80]!r} as the class; accepted: one line that is not empty")
    return name


def _field(value: Mapping[str, Any], label: str | None, place: str) -> Any:
    usual = [field for field in ((label,) if label else FIELDS) if field in value]
    if len(usual) != 1:
        raise InputError(
            f"{place} has {f'no field {label}' if label else 'several or no usual fields for the class'}; it has "
            f"{', '.join(sorted(value)) or 'none'}: choose one by dataset.label=FIELD"
        )
    return value[usual[0]]
