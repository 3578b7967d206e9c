import errno
import math
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dml.errors import InputError, MissingFileError
from dml.reporting import metrics_table, print_evaluation, print_verification, readable_errors
from dml.runs import load_metrics
from dml.signals import Interrupted
from dml.training import NonFiniteLossError
from dml.verification import Verification


def run(error: BaseException) -> None:
    @readable_errors
    def command() -> None:
        raise error

    command()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("size is 3"), 2),
        (MissingFileError("no file"), 2),
        (NonFiniteLossError("at step 3 the loss is nan"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (Interrupted("stopped"), 130),
        (KeyboardInterrupt("interrupted"), 130),
    ],
)
def test_an_error_of_the_user_is_a_sentence_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(error)
    said = capsys.readouterr().err
    assert end.value.code == code and str(error) in said and "Traceback" not in said


@pytest.mark.parametrize("error", [KeyError("lost"), ValueError("size is 3"), OSError("a library's")])
def test_a_defect_keeps_its_traceback_and_ends_with_a_sentence(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["dml train", "seed=3"])
    with pytest.raises(SystemExit) as end:
        run(error)
    *lines, last = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and lines[0].startswith("Traceback") and "raise error" in "".join(lines)
    assert last.startswith(
        f"error: dml train seed=3 ended by {type(error).__name__}, a defect of dml or of a library"
    )
    assert "report it" in last and "resume=" not in last


@pytest.mark.parametrize("typed", ["resume=FOLDER", "seed=3"])
def test_a_defect_says_how_the_run_goes_on(
    typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()
    task = [typed.replace("FOLDER", str(tmp_path))]
    elsewhere = str(tmp_path if task == [typed] else tmp_path / "new")
    hydra = {"overrides": {"task": task}, "runtime": {"output_dir": elsewhere}, "mode": "RUN"}
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(hydra))
    with pytest.raises(SystemExit):
        run(KeyError("lost"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"goes on from its last checkpoint by: dml train resume={tmp_path}")


def test_a_defect_before_there_is_a_run_says_nothing_of_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hydra = {"overrides": {"task": []}, "runtime": {"output_dir": "???"}, "mode": "RUN"}
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(hydra))
    with pytest.raises(SystemExit, match="1"):
        run(KeyError("lost"))
    assert "report it" in (last := capsys.readouterr().err.splitlines()[-1]) and "resume=" not in last


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DML_TRACEBACK", "1")
    with pytest.raises(ValueError, match="size is 3"):
        run(ValueError("size is 3"))


def test_the_table_has_a_column_per_split() -> None:
    table = metrics_table(
        {"val": {"recall@1": 0.5, "queries": 1200}, "test": {"recall@1": 0.25, "queries": 8}}
    )
    assert [column.header for column in table.columns] == ["metric", "val", "test"]
    assert list(table.columns[1].cells) == ["50.00%", "1,200"]


def test_figures_that_differ_in_the_last_digit_are_named(
    smoke_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = load_metrics(smoke_run)
    assert print_evaluation(smoke_run, metrics, compare=True)
    assert "to the last digit" in capsys.readouterr().out
    metrics["test"]["map@r"] += 1e-15
    assert not print_evaluation(smoke_run, metrics, compare=True)
    assert "test map@r" in capsys.readouterr().out


def test_a_step_of_half_precision_whose_norm_overflowed_twice_is_identical() -> None:
    overflowed = Verification({1: ((0.5, math.nan), (0.5, float("nan")))}, {})
    assert print_verification(overflowed)
    assert not print_verification(Verification({1: ((0.5, math.nan), (0.5, 1.0))}, {}))
