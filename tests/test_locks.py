"""A run folder belongs to one process at a time."""

import subprocess
import sys
from pathlib import Path

from dml.locks import lock_folder, unlock_folder

OTHER = "import sys; from pathlib import Path; from dml.locks import lock_folder as l; print(l(Path(sys.argv[1])))"


def other_process_gets(folder: Path) -> bool:
    command = [sys.executable, "-c", OTHER, str(folder)]
    root = Path(__file__).parent.parent
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_folder_is_free_before_it_is_locked_and_after_it_is_unlocked_and_for_its_owner(
    tmp_path: Path,
) -> None:
    assert other_process_gets(tmp_path)  # and gives it back by ending
    assert lock_folder(tmp_path) and lock_folder(tmp_path)
    assert not other_process_gets(tmp_path)
    unlock_folder(tmp_path)
    assert list(tmp_path.iterdir()) == [] and other_process_gets(tmp_path)


def test_unlocking_what_was_not_locked_does_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    unlock_folder(tmp_path)
    assert (tmp_path / ".lock").exists()
