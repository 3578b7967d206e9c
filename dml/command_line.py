"""What was typed to start this process."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

__all__ = ["PROGRAM", "command_line"]

PROGRAM = "dml"
"""What our command puts before the arguments in ``sys.argv``, in place of the path of a file."""


def command_line() -> str:
    """The command as one would type it again."""
    program, *arguments = sys.argv
    if program.partition(" ")[0] == PROGRAM:
        return shlex.join([*program.split(), *arguments])
    return shlex.join([Path(sys.executable).name, *sys.argv])
