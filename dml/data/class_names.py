"""Names of classes as people see them: what looks the same is one class, or is refused."""

from __future__ import annotations

import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from dml.data.annotations import Row, first_few
from dml.errors import InputError

__all__ = ["composed", "with_composed_labels"]


def composed(name: str) -> str:
    """The name in the normal form C of Unicode: macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def with_composed_labels(rows: Sequence[Row]) -> list[Row]:
    """The rows with labels in normal form C. Classes that become one by it are merged with a warning.

    Names that differ in nothing but upper and lower case, or compatible forms of letters, get a warning and stay two.

    Raises:
        InputError: names differ in nothing but blanks or characters that cannot be seen.
    """
    spelled = {row.label for row in rows}
    if merged := _alike(spelled, composed):
        names = [composed(group[0]) for group in merged]
        warnings.warn(
            f"{len(names)} classes are spelled in two forms of Unicode, {first_few(names)}, as happens when files come "
            "from macOS: each was taken as one class",
            stacklevel=3,
        )
    labels = {composed(name) for name in spelled}
    if unseen := _alike(labels, _visible):
        names = [" = ".join(map(ascii, group)) for group in unseen]
        raise InputError(
            f"{len(names)} names of classes come in spellings that look the same, {first_few(names, show=str)}: they "
            "differ in blanks or in characters that cannot be seen; rename them, so that they are one class or two"
        )
    if similar := _alike(labels, _folded):
        names = [" and ".join(map(repr, group)) for group in similar]
        warnings.warn(
            f"{len(names)} names of classes differ only in upper and lower case or in the form of their letters, "
            f"{first_few(names, show=str)}: they were taken as different classes; rename them if they are one",
            stacklevel=3,
        )
    return [row._replace(label=composed(row.label)) for row in rows]


def _alike(names: Iterable[str], form: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[form(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _visible(name: str) -> str:
    """Without characters of no width, and with single blanks."""
    seen = "".join(letter for letter in name if not _has_no_width(letter))
    return " ".join(composed(seen).split())


def _has_no_width(letter: str) -> bool:
    variation_selector = "\ufe00" <= letter <= "\ufe0f"
    return unicodedata.category(letter) == "Cf" or variation_selector


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
