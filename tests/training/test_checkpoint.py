import os
import pickle
from pathlib import Path

import pytest
import torch

from dml.training import load_checkpoint, save_checkpoint


class RunsCode:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.system, ("touch owned",)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    state = {"step": 3, "model": {"weights": torch.arange(4.0)}, "best": {"value": 0.5}}
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert loaded["model"]["weights"].equal(torch.arange(4.0)) and loaded["best"] == {"value": 0.5}


def test_a_failure_while_writing_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "last.pt", {"step": 1, "model": {}})

    def fails(state: object, file: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path / "last.pt", {"step": 2, "model": {}})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 1


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": RunsCode()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="damaged or no checkpoint of plain tensors"):
        load_checkpoint(tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(RunsCode(), protocol=2))
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        load_checkpoint(tmp_path / "plain.pt")
    assert not (tmp_path / "owned").exists()


def test_half_a_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", {"model": torch.zeros(1000)})
    content = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"last.pt is damaged"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_missing_checkpoint_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*expected"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("content", [torch.zeros(2), {"step": 3}])
def test_a_file_without_a_model_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt is no checkpoint of this project"):
        load_checkpoint(tmp_path / "other.pt")
