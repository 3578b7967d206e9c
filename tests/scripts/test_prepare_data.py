"""What scripts/prepare_data.py says to wrong and to incomplete input."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """The script as the command line would run it."""
    monkeypatch.setattr(sys, "argv", ["prepare_data.py", *arguments])
    spec = importlib.util.spec_from_file_location("prepare_data", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prepare_data", module)
    spec.loader.exec_module(module)
    module.main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: dataset= is required; accepted keys: dataset=, archive=, data="),
        (["dataset=cup"], "error: dataset=cup has no archives; accepted: cub, cars, sop, inshop, grocery"),
        (["dataset=cub", "archiv=x"], "accepted keys: dataset=, archive=, data="),
        (["dataset=cub", "archive=missing.tgz"], "error: archive=missing.tgz is no file"),
        (["dataset=sop"], "dataset=sop finds no Ebay_train.txt at"),
        (["dataset=inshop"], "To get it: sign the request"),
    ],
)
def test_wrong_input_ends_with_a_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DML_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, *arguments)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_is_its_own_description(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--help")
    assert "python scripts/prepare_data.py dataset=cub archive=CUB_200_2011.tgz" in capsys.readouterr().out
