"""Another process that holds the lock of a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOLD = """
import sys
{before}
from pathlib import Path
from dml.locks import lock_folder
assert lock_folder(Path(sys.argv[1]))
{more}
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process_holds(
    folder: Path, *, before: str = "", more: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """before, more: what that process does before and after it takes the lock. It is killed at the end of the block."""
    command = [sys.executable, "-c", HOLD.format(before=before, more=more), str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        try:
            yield other
        finally:
            other.kill()
