"""The commands about rows and tables in docs/ are commands of today."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from dml.commands import app
from dml.config import TrainConfig
from dml.reporting.former_names import refuse_former_names
from dml.reporting.table_files import AXES, TABLES, read_tables

REPRODUCE = get_command(app).commands["reproduce"]  # type: ignore[attr-defined]
DOCS = Path(__file__).parents[2] / "docs"
TEXT = "\n".join((DOCS / f"{name}.md").read_text() for name in ("tables", "sweep", "results"))
TEXT = TEXT.replace("\\\n", " ") + "\n".join(path.read_text() for path in TABLES.glob("*.yaml"))
LINES = [line.split("  #")[0] for line in re.findall(r"^(?:# | {4})(?:\$ )?dml (\S.*)$", TEXT, re.MULTILINE)]
TRAINING = [line for line in LINES if line.startswith("train ") and re.search("published=|experiment=", line)]
TABLE_NAMES = sorted({line for line in LINES if line.startswith("reproduce ")})


@pytest.mark.parametrize("command", TRAINING)
def test_a_command_that_trains_a_row_composes(
    command: str, compose_config: Callable[..., TrainConfig]
) -> None:
    words = [word for word in shlex.split(command)[1:] if not word.startswith(("-", "hydra"))]
    refuse_former_names(words)
    assert compose_config(*(word.split(",")[0] for word in words)).loss


def test_a_command_that_makes_a_table_names_one_that_there_is() -> None:
    assert len(TRAINING) >= 5 and len(TABLE_NAMES) >= 8
    for command in TABLE_NAMES:
        context = REPRODUCE.make_context("reproduce", shlex.split(command)[1:])
        narrowed = {axis: values for axis in AXES if (values := context.params[axis])}
        assert read_tables(context.params["table"], narrowed)
