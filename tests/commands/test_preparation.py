"""What dml prepare says to wrong and to incomplete input."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'NAME'"),
        (["cup"], "error: cup has no archives; accepted: cub, cars, sop, inshop, grocery"),
        (["cub", "--archiv", "x"], "--archive"),
        (["cub", "--archive", "missing.tgz"], "error: archive=missing.tgz is no file"),
        (["cub", "--archive", "12:30:00"], "error: archive=12:30:00 is no file"),
        (["sop"], "dataset=sop finds no Ebay_train.txt at"),
        (["inshop"], "To get it: sign the request"),
    ],
)
def test_wrong_input_ends_with_a_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dml: Callable[..., Result],
) -> None:
    monkeypatch.setenv("DML_DATA", str(tmp_path))
    done = dml("prepare", *arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert not list(tmp_path.iterdir())
