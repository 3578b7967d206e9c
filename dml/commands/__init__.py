"""The command ``dml``: what is typed, and the one place of its help texts. It imports torch when it must."""

from dml.commands import training, checking, measuring, tables, preparation, indexing, using, serving, sharing  # isort: skip  the order of the help
from dml.commands.app import app, main

__all__ = [
    "app",
    "checking",
    "indexing",
    "main",
    "measuring",
    "preparation",
    "serving",
    "sharing",
    "tables",
    "training",
    "using",
]
