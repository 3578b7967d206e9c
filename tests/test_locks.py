"""A run folder belongs to one process at a time."""

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from dml.locks import lock_folder, locked, unlock_folder
from tests.holding import ROOT, other_process_holds

OTHER = (
    "{before}; from pathlib import Path; from dml.locks import lock_folder as l; print(l(Path(sys.argv[1])))"
)
HIDE = "import sys, filelock; sys.modules['fcntl'] = None"  # as on Windows


def other_process_gets(folder: Path, *, before: str = "import sys") -> bool:
    command = [sys.executable, "-c", OTHER.format(before=before), str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "True\n"


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


@pytest.mark.parametrize("hide", ["pass", HIDE])
def test_a_lock_goes_with_its_process_and_the_file_that_is_left_locks_nothing(
    hide: str, tmp_path: Path
) -> None:
    fork = (
        "import os, time\nif not os.fork(): time.sleep(20)" if hide == "pass" else ""
    )  # a worker that lives on
    with other_process_holds(tmp_path, before=hide, more=fork) as other:
        assert not other_process_gets(tmp_path, before=hide if hide == HIDE else "import sys")
        other.kill()
        other.wait()
        assert (tmp_path / ".lock").exists() and lock_folder(tmp_path)
    unlock_folder(tmp_path)


def test_a_lock_on_a_file_that_its_last_owner_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    lockf = fcntl.lockf

    def remove_before(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "lockf", lockf)
        (tmp_path / ".lock").unlink()
        lockf(descriptor, operation)

    monkeypatch.setattr(fcntl, "lockf", remove_before)
    assert lock_folder(tmp_path) and not other_process_gets(tmp_path)
    unlock_folder(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_are_no_locks_the_work_goes_on_and_it_is_said(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_locks(monkeypatch, code)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "x.lock") as alone:
        assert not alone and lock_folder(tmp_path)
    unlock_folder(tmp_path)
    assert "cannot be locked" in caplog.text and f"second process out of {tmp_path}" in caplog.text


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_only_two_errors_mean_that_another_process_is_in(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch, code)
    assert not lock_folder(tmp_path)


def refuse_locks(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "no lock")

    monkeypatch.setattr("fcntl.lockf", refuse)


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks"), NotImplementedError("no flock")])
def test_where_the_library_finds_no_locks_the_work_goes_on_too(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert lock_folder(tmp_path) and str(error) in caplog.text
    unlock_folder(tmp_path)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock_folder(tmp_path / "nowhere")
