"""What docs/after_a_run.md tells people to type works as written."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.config import TrainConfig
from tests.index.conftest import draw
from tests.index.test_commands import dml
from tests.photographs import write_finished_run

PAGE = (Path(__file__).parents[2] / "docs" / "after_a_run.md").read_text(encoding="utf-8")
COMMANDS = [line.split("  #")[0].strip() for line in re.findall(r"^ {4}(dml .*)$", PAGE, re.MULTILINE)]
SMALL = (
    "dataset=folder dataset.root=shop/photographs transform.short_side=32 pooling=gap protocol=conventional "
    "debug=smoke"
)
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_of_the_page_works_in_its_order(
    smoke_run: Path,
    compose_smoke: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """But for the precision, which the smoke run has not, and for what takes a thousand images."""
    shutil.copytree(smoke_run, tmp_path / "RUN")
    for number, name in enumerate(
        ("photos/a.png", "photos/old/b.png", "photos/c.png", "more/d.png", "query.webp")
    ):
        draw(tmp_path / name, number)
    (tmp_path / "items.csv").write_text("path,label\nphotos/c.png,mug\n", encoding="utf-8")
    (tmp_path / "shop").mkdir()
    write_finished_run(tmp_path / "shop", compose_smoke)
    (tmp_path / "data").symlink_to(Path(__file__).parents[2] / "data")
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 15 and len(set(COMMANDS)) == 15
    for command in COMMANDS:
        if "--false-match-rate" in command:  # what stands for the precision is asked once
            continue
        command = command.replace("leaks RUN", "leaks shop/run")  # of a small data set
        command = command.replace("evaluate RUN", "evaluate shop/run --checkpoint last")
        command = command.replace("--precision 0.95", "--false-match-rate 0.1").replace("OTHER_RUN", "RUN")
        command = (
            command.replace("a.jpg", "photos/a.png").replace("b.jpg", "photos/c.png").replace("-k 3", "-k 2")
        )
        done = dml(*shlex.split(command.replace("dataset=emoji", SMALL))[1:])
        if "--approximate" in command:
            assert done.exit_code == 2 and "is for 1,000 or more" in done.stderr
        else:
            assert done.exit_code == 0, f"{command}\n{done.output}"
    names: dict[str, list[object]] = {}
    exec(CODE, names)
    assert "photos/a.png" in capsys.readouterr().out and len(names["vectors"]) == 3
