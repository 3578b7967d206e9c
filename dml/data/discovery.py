"""The images of a folder: each file once, however many names lead to it, and a reason for each that is left out."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dml.data.annotations import first_few
from dml.data.formats import HEIF, why_no_picture
from dml.errors import FileError, InputError

__all__ = [
    "LINKED",
    "OF_THE_SYSTEM",
    "Found",
    "Identity",
    "describe",
    "find_images",
    "identity",
    "look_for_images",
    "refuse_unread",
    "why_unreadable",
]

Identity = tuple[int, int] | str
LINKED = "folders that are read under another name"
HIDDEN, HOUSEKEEPING = "hidden", "of the system"
NO_FILE = "pipes, sockets or devices"
OF_THE_SYSTEM = {  # what NAS and desktop systems put beside images
    *(
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
    ),
    *("system volume information", "lost+found", "found.000", "__macosx", "network trash folder"),
    *("temporary items", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}


@dataclass
class Found:
    """What a search found below a folder.

    files:      names of the images, relative to the folder, sorted; each file once, by its own name before a link.
    others:     further names of these files -> the name in files.
    left_out:   reason -> names; those of folders end with a slash.
    unreadable: names, with the reason of each.
    """

    files: list[str] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unreadable: dict[str, str] = field(default_factory=dict)


def find_images(root: str | Path) -> Found:
    """All images at any depth; links are followed, and each folder and each file is taken once.

    Raises:
        FileError: folders, files or links cannot be read.
        InputError: some are in a format for which a package is missing.
    """
    found = look_for_images(root)
    refuse_unread(str(root), found.unreadable, found.left_out.pop(HEIF, ()), len(found.files))
    return found


def look_for_images(root: str | Path) -> Found:
    """As find_images, with nothing refused: what cannot be read is in the result, as is HEIC without its package."""
    found = _Search(Path(root)).found
    found.files.sort()
    return found


def refuse_unread(place: str, unreadable: Mapping[str, str], heif: Sequence[str], others: int) -> None:
    """Refuse images that are there and would be missing from the data.

    Raises:
        FileError: there are unreadable ones.
        InputError: there are images in HEIC, for which a package is missing.
    """
    if unreadable:
        named = first_few([f"{name!r} ({reason})" for name, reason in sorted(unreadable.items())], show=str)
        raise FileError(
            f"{place}: {len(unreadable):,} files or folders cannot be read, {named}: mend or remove them, "
            "so that no image is missed in silence"
        )
    if heif:
        raise InputError(
            f"{place}: {len(heif):,} of {len(heif) + others:,} images are in HEIC or AVIF, {first_few(sorted(heif))}, "
            "and nothing here reads them: `pip install pillow-heif`, or convert them, or move them elsewhere"
        )


def why_unreadable(path: Path) -> str:
    """The reason why a file holds nothing to read, or nothing.

    Raises:
        OSError: it cannot be looked at.
    """
    if os.stat(path).st_size == 0:
        return "it is empty"
    return "" if os.access(path, os.R_OK) else "permission denied"


def identity(path: Path) -> Identity:
    """What is equal for two names of one file or folder and different for two files.

    Raises:
        OSError: it cannot be looked at.
    """
    status = os.stat(path)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def describe(left_out: Mapping[str, Sequence[str]]) -> str:
    """What was left out, in one line: how many for which reason, and an example of each."""
    parts = [
        f"{len(names):,} {reason} ({names[0]!r}{_more(names)})" for reason, names in sorted(left_out.items())
    ]
    return ", ".join(parts) or "nothing"


def _more(names: Sequence[str]) -> str:
    return ", ..." if len(names) > 1 else ""


class _Search:
    """The walk: real folders and files first, so that a link never takes the place of what it leads to."""

    def __init__(self, root: Path) -> None:
        self.found, self._root = Found(), root
        self._folders: set[Identity] = set()
        self._files: dict[Identity, str] = {}
        self._links: list[str] = []
        self._walk("")
        while self._links:
            links, self._links = sorted(self._links), []
            for link in links:
                self._follow(link)

    def _follow(self, link: str) -> None:
        path = self._root / link
        try:
            os.stat(path)
        except OSError as error:  # it leads nowhere, or in a circle
            self.found.unreadable[link] = _reason(path, error)
            return
        self._walk(link) if path.is_dir() else self._look_at(link)

    def _walk(self, top: str) -> None:
        stack = [top]
        while stack:
            place = stack.pop()
            folders: list[str] = []
            for entry in self._entries(place):
                name = f"{place}/{entry.name}" if place else entry.name
                if reason := _passed_over(entry.name):
                    self.found.left_out[reason].append(name + "/" * entry.is_dir(follow_symlinks=False))
                elif entry.is_symlink():
                    self._links.append(name)
                elif entry.is_dir():
                    folders.append(name)
                else:
                    self._look_at(name)
            stack += reversed(folders)

    def _entries(self, place: str) -> Iterable[os.DirEntry[str]]:
        """What is in a folder, sorted; nothing if it was read before."""
        path = self._root / place
        try:
            key = identity(path)
            if key in self._folders:
                self.found.left_out[LINKED].append(place + "/")
                return ()
            with os.scandir(path) as entries:
                content = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.found.unreadable[place or "."] = _reason(path, error)
            return ()
        self._folders.add(key)
        return content

    def _look_at(self, name: str) -> None:
        path = self._root / name
        try:
            regular = stat.S_ISREG(os.stat(path).st_mode)
            why = why_no_picture(path) if regular else NO_FILE
            key, unreadable = identity(path), why_unreadable(path)
        except OSError as error:
            self.found.unreadable[name] = _reason(path, error)
            return
        if why:
            self.found.left_out[why].append(name)
        elif unreadable:
            self.found.unreadable[name] = unreadable
        elif key in self._files:
            self.found.others[name] = self._files[key]
        else:
            self._files[key] = name
            self.found.files.append(name)


def _passed_over(name: str) -> str:
    if name.startswith("."):
        return HIDDEN
    return HOUSEKEEPING if name.casefold() in OF_THE_SYSTEM else ""


def _reason(path: Path, error: OSError) -> str:
    if path.is_symlink() and not os.path.exists(path):
        return f"a link that leads nowhere or in a circle, to {os.readlink(path)}"
    return (error.strerror or str(error)).lower()
