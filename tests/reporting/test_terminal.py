from pathlib import Path

import pytest

from dml.reporting import metrics_table, print_evaluation, readable_errors
from dml.runs import load_metrics
from dml.training import Interrupted


def run(error: BaseException) -> None:
    @readable_errors
    def command() -> None:
        raise error

    command()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("size is 3"), 2),
        (FileNotFoundError("no file"), 2),
        (Interrupted("stopped"), 130),
        (KeyboardInterrupt("interrupted"), 130),
    ],
)
def test_an_error_of_the_user_is_a_sentence_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(error)
    assert end.value.code == code and str(error) in capsys.readouterr().err


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        run(KeyError("defect"))


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
