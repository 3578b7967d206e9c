from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from omegaconf import MISSING

from dml.config import ConfigError, parse_arguments


@dataclass
class Arguments:
    run: str = MISSING
    count: int = 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu=x"], "rnu.*accepted keys: run=, count="),
        (["run=x", "count=many"], "many"),
        (["count=1"], "run= is required"),
        (["folder"], "not of the form key=value"),
        (["run=*.jpg"], "run=.*YAML reads.*put quotes inside"),
    ],
)
def test_wrong_script_arguments_get_a_sentence(arguments: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arguments(Arguments, list(arguments))


def test_script_arguments_become_the_dataclass() -> None:
    assert parse_arguments(Arguments, ["run=a/b", "count=5"]) == Arguments("a/b", 5)
