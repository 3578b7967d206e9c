"""Whenever a process is killed, an index is left of all that was committed, and the same call goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dml.index import intake
from dml.index.building import build_index
from dml.index.checking import check_index
from dml.index.index import open_index
from dml.index.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


def killed_at(call: int, work: Callable[[], object]) -> bool:
    """Do some work in a process that is killed at the n-th time that it waits for the disk; whether it came to that."""
    child = os.fork()
    if child == 0:
        calls = []

        def fsync(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = fsync
        intake.BATCH, intake.SAVE_EVERY = 2, 0
        work()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


def vectors(folder: Path) -> dict[str, bytes]:
    with open_index(folder) as index:
        return {item.path: vector.tobytes() for item, vector in index}


def test_a_build_that_is_killed_anywhere_goes_on_and_ends_as_if_it_had_not_been(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BATCH", 2)
    build_index(run, [photos], tmp_path / "whole")
    expected = vectors(tmp_path / "whole")
    kept = []
    call = 0
    while True:
        folder, call = tmp_path / f"index {call}", call + 1
        if not killed_at(call, lambda folder=folder: build_index(run, [photos], folder)):
            break
        if (folder / "index.json").exists():
            found = vectors(folder)
            assert found.items() <= expected.items() and not check_index(folder).damaged
            kept.append(len(found))
        changes = build_index(run, [photos], folder)
        assert changes.items == 9 and changes.unchanged == (kept[-1] if kept else 0)
        assert not check_index(folder).damaged
        result = vectors(folder)
        assert result.keys() == expected.keys()
        for path in result:
            np.testing.assert_allclose(
                np.frombuffer(result[path], np.float32), np.frombuffer(expected[path], np.float32), atol=1e-6
            )
    assert call > 6 and kept == sorted(kept) and {0, 9} <= set(kept) and len(set(kept)) > 3


def test_what_stands_behind_the_last_row_that_counts_is_cut_off(
    photo_index: Path, photos: Path, run: Path
) -> None:
    before = vectors(photo_index)
    with (photo_index / "vectors.npy").open("ab") as file:
        file.write(b"half of a vec")
    assert vectors(photo_index) == before and np.load(photo_index / "vectors.npy").shape == (9, 8)
    build_index(run, [photos], photo_index)
    assert (photo_index / "vectors.npy").stat().st_size == 128 + 9 * 8 * 4
    assert Store(photo_index).rows == 9
