"""Stored embeddings of strangers: plain arrays, written out."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from dml.reporting.embeddings import read_embeddings

ARRAYS = {"vectors": np.eye(3, dtype=np.float32), "labels": np.arange(3), "files": np.array(["a", "b", "c"])}


def test_the_arrays_of_a_run_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS, others=np.zeros(9))
    read = read_embeddings(tmp_path / "a.npz")
    assert list(read) == list(ARRAYS) and all(np.array_equal(read[name], ARRAYS[name]) for name in ARRAYS)


@pytest.mark.parametrize("kind", ["packed", "pickled", "pickle", "cut", "empty"])
def test_what_no_run_writes_is_refused_with_a_way_out(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if kind == "packed":
        np.savez_compressed(path, **{**ARRAYS, "vectors": np.zeros((9, 9))})
    else:
        np.savez(path, **{**ARRAYS, "labels": np.array([{}] * 3 if kind == "pickled" else [1, 2, 3])})
    if kind in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: 300 if kind == "cut" else 0])
    if kind == "pickle":
        path.write_bytes(pickle.dumps(ARRAYS))
    with pytest.raises(ValueError, match=r"a.npz is not as a run writes it \(.*checkpoint=last"):
        read_embeddings(path)
