"""The command ``dml`` in this process, which saves its imports."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from dml.commands import app

Dml = Callable[..., Result]


@pytest.fixture(scope="session")
def dml() -> Dml:
    """What ``dml ARGUMENTS`` ends with: exit_code, stdout and stderr."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="dml")

    return call
