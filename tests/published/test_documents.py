"""The commands about rows and tables in docs/ are commands of today."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.config import TrainConfig
from dml.reporting.former_names import refuse_former_names
from dml.reporting.table_files import TABLES, read_tables

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "\n".join((DOCS / f"{name}.md").read_text() for name in ("tables", "sweep", "results"))
TEXT = TEXT.replace("\\\n", " ") + "\n".join(path.read_text() for path in TABLES.glob("*.yaml"))
LINES = [
    line.split("  #")[0] for line in re.findall(r"^(?:# | {4})(?:\$ )?python (\S.*)$", TEXT, re.MULTILINE)
]
TRAINING = [
    line for line in LINES if line.startswith("train.py") and re.search("published=|experiment=", line)
]
TABLE_NAMES = sorted({line for line in LINES if line.startswith("scripts/reproduce.py table=")})


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
        table, *rest = (word.partition("=")[2] for word in shlex.split(command)[1:])
        assert read_tables(table) and all(rest)
