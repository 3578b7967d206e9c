"""The command ``dml``: what is typed, and the one place of its help texts. It imports torch when it must."""

from dml.commands import training, measuring, tables, preparation  # isort: skip  the order of the help
from dml.commands.app import app, main
from dml.index.commands import mount

__all__ = ["app", "main", "measuring", "preparation", "tables", "training"]

mount(app)
