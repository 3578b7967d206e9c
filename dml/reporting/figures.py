"""What all figures share: a file in a format that is known, and names that fit over a small image."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dml.errors import InputError

__all__ = ["MOST_ROWS", "check_rows", "figure_path", "fit_name", "hide_ticks", "save_figure"]

SUFFIXES = (".png", ".pdf", ".svg")
DOTS_PER_INCH = 100
MOST_ROWS = 64  # a taller figure is no longer looked at, and matplotlib ends at 2^16 pixels


def figure_path(output: str) -> Path:
    """The path of a figure that is to be written.

    Raises:
        InputError: the ending is of no known format.
    """
    path = Path(output)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"output={output}: the ending says the format, accepted: {', '.join(SUFFIXES)}")
    return path


def check_rows(count: int) -> None:
    """Refuse a number of rows that makes no figure, with an InputError."""
    if not 1 <= count <= MOST_ROWS:
        raise InputError(f"count={count}: a figure has 1 to {MOST_ROWS} rows")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; folders that are missing are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph .* missing from"
        )  # a script without a font: boxes stand for it
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)
    partial.replace(path)


def fit_name(name: str, *, width: int, lines: int) -> str:
    """A name in so many lines of so many characters, broken at spaces and hyphens, with … where it was cut."""
    wrapped = textwrap.wrap(name, width, break_on_hyphens=True) or [""]
    if len(wrapped) > lines:
        wrapped[lines - 1] = wrapped[lines - 1][: width - 1] + "…"
    return "\n".join(wrapped[:lines])


def hide_ticks(axes: Axes) -> None:
    """Leave the frame and the titles."""
    axes.set_xticks([])
    axes.set_yticks([])
