from tests.commands.conftest import dml

__all__ = ["dml"]
