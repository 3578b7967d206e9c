import os
import pickle
from pathlib import Path

import pytest
import torch

from dml.errors import CheckpointError, FileError
from dml.training import load_checkpoint, load_part, save_checkpoint


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


def test_a_checkpoint_without_what_a_run_goes_on_from_is_refused_with_what_it_has(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", {"step": 3, "model": {}, "objective": {}})
    with pytest.raises(
        CheckpointError, match=r"holds .*step, model, objective, but no optimizer, best.*not its best"
    ):
        load_checkpoint(tmp_path / "last.pt", "step", "optimizer", "best")


def test_a_checkpoint_that_cannot_be_read_is_an_error_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "last.pt", {"model": {}})

    def fails(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "last.pt")

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(FileError, match=r"reading .*last.pt: Permission denied \(last.pt\)"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(4)},
            r"model.weight: shape \(2, 3\) .*, shape \(4, 3\) here",
        ),
        ({"weight": torch.zeros(4, 3)}, r"model.bias: absent in the checkpoint, shape \(4,\) here"),
        (
            {"weight": torch.zeros(4, 3), "bias": torch.zeros(4), "mean": torch.zeros(1)},
            r"shape \(1,\) .*, absent here",
        ),
        ({"weight": torch.zeros(4, 3), "bias": 7}, r"model.bias: int in the checkpoint, shape \(4,\) here"),
        ({f"w{i}": torch.zeros(1) for i in range(9)}, r"(?s)and 8 more\ntake the configuration"),
        (["weight"], "list in the checkpoint, names and tensors here"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_with_both_sides(model: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=r"last.pt does not fit the model of this") as error:
        load_part(torch.nn.Linear(3, 4), {"model": model}, "model", Path("last.pt"))
    assert error.match(message)
