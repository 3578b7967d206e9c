import csv
import errno
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from torch import nn

from dml.config import TrainConfig
from dml.run_folder import RunFolder
from dml.train import train
from dml.training import HistoryLogger, Logger, ProgressLogger, StepLogger, read_steps
from dml.training.loggers import close_or_warn, open_or_warn, tell

METRICS = {"recall@1": 0.5, "recall@2": 0.75, "r_precision": 0.3, "map@r": 0.25, "queries": 10}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_history(path: Path, start: int, steps: list[int]) -> None:
    logger = HistoryLogger(path, start=start)
    for step in steps:
        if step:
            logger.training(step, {"loss/total": step / 3})
        logger.validation(step, METRICS, nn.Identity())


def test_history_has_a_row_per_validation_with_the_scalars_before_it(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", 0, [0, 5])
    first, second = rows(tmp_path / "history.csv")
    assert first["step"] == "0" and first["loss/total"] == ""
    assert float(second["loss/total"]) == 5 / 3 and float(second["val/map@r"]) == 0.25


def test_history_of_a_resumed_run_is_that_of_one_run(tmp_path: Path) -> None:
    write_history(tmp_path / "whole.csv", 0, [0, 5, 10, 15])
    write_history(tmp_path / "parts.csv", 0, [0, 5, 10])
    write_history(tmp_path / "parts.csv", 5, [10, 15])
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_history_of_a_run_killed_before_its_first_checkpoint_has_each_row_once(tmp_path: Path) -> None:
    write_history(tmp_path / "whole.csv", 0, [0, 5])
    write_history(tmp_path / "parts.csv", 0, [0])
    write_history(tmp_path / "parts.csv", 0, [0, 5])
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_steps_of_a_resumed_run_are_those_of_one_run_with_all_digits(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    for start, steps in ((0, [1, 2, 3]), (2, [3, 4])):
        logger = StepLogger(path, start=start)
        for step in steps:
            logger.step(step, loss=step / 3, gradient_norm=step / 7)
        logger.close()
    assert read_steps(path) == {step: (step / 3, step / 7) for step in (1, 2, 3, 4)}


def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("step,loss,gradient_norm\n1,0.5,2.0\n2,0.25,1")
    assert read_steps(path) == {1: (0.5, 2.0)}
    StepLogger(path, start=5).close()
    assert path.read_text() == "step,loss,gradient_norm\n1,0.5,2.0\n"


def test_progress_shows_each_validation() -> None:
    output = io.StringIO()
    logger = ProgressLogger(Console(file=output, width=120), start=0, stop=10)
    logger.step(5, loss=0.125, gradient_norm=1.0)
    logger.validation(5, METRICS, nn.Identity())
    logger.close()
    assert "recall@1 50.00%" in output.getvalue() and "map@r 25.00%" in output.getvalue()
    assert "5/10" in output.getvalue() and "loss 0.1250" in output.getvalue()


def test_a_row_that_a_full_disk_cut_in_the_middle_of_the_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text("step,loss,gradient_norm\n1,0.5,2.0\n2,0.25,13,0.5,1.5\n4,0.5\n5,0.125,nan\n")
    assert list(read_steps(path)) == [1, 5]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("not a number")]
)
def test_a_logger_that_cannot_be_opened_or_closed_is_named_in_a_warning(
    error: Exception, tmp_path: Path
) -> None:
    def fail() -> Logger:
        raise error

    with pytest.warns(UserWarning, match=r"steps\.csv (could not be written|failed).*run goes on"):
        assert open_or_warn("steps.csv", fail) == []
    logger = StepLogger(tmp_path / "steps.csv", start=0)
    logger.close = fail  # type: ignore[method-assign, assignment]
    with pytest.warns(UserWarning, match=r"StepLogger.*run goes on"):
        close_or_warn(logger)


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_logger_that_worked_in_between_is_named_again(tmp_path: Path) -> None:
    logger = StepLogger(tmp_path / "steps.csv", start=0)
    said, write = [], logger._file.write
    for step, is_full in enumerate([True, True, False, True], start=1):
        logger._file = SimpleNamespace(write=refuse if is_full else write, close=logger._file.close)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tell([logger], "step", step, 0.5, 1.0)
        said.append(len(caught))
    logger.close()
    assert said == [1, 0, 0, 1] and list(read_steps(tmp_path / "steps.csv")) == [3]


def test_a_run_whose_every_log_is_on_a_full_disk_trains_and_is_measured(
    compose_smoke: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.tensorboard.touch()  # where a folder should be
    for path in (run.history, run.steps):
        path.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.warns(UserWarning, match="run goes on") as said:
        train(compose_smoke("trainer.max_steps=1"), run.path)
    named = " ".join(str(warning.message) for warning in said)
    assert all(name in named for name in ("steps.csv", "logger.tensorboard", "the log of step"))
    assert run.metrics.exists()
