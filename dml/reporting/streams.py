"""Streams that take any text."""

from __future__ import annotations

import io
import sys

from dml.reporting.lost_output import outlast_lost_output

__all__ = ["accept_any_text"]


def accept_any_text() -> None:
    """Print what the encoding of the terminal lacks, such as ✓ where it is ASCII, as an escape and not as an error.

    Where file names are not in UTF-8, as in the locale C without Python's UTF-8 mode, it says what that means.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    outlast_lost_output()
    encoding = sys.getfilesystemencoding()
    if encoding.replace("-", "") != "utf8":
        sys.stderr.write(
            f"warning: file names are in {encoding} here, so what a table names in other letters is not found: set "
            "PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8\n"
        )
