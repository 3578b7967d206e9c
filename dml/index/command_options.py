"""What the commands of an index have in common: arguments, options, and how an error ends one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

__all__ = ["Checkpoint", "Device", "Folder", "Json", "Moved", "Run", "Trust", "command"]

P = ParamSpec("P")

Run = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.")]
Folder = Annotated[str, typer.Argument(metavar="INDEX", help="The folder of an index.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="Of the model: cpu, cuda, cuda:1, ...")]
Checkpoint = Annotated[str, typer.Option(metavar="best|last", help="Which weights of the run.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(metavar="PACKAGE", help="A package of your own that the run may name; may be repeated."),
]
Moved = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="The run of the index, if it is no longer where it was."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer for programs.")]


def command(owner: typer.Typer, name: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a function whose errors end it with one sentence."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @owner.command(name)
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> None:
            from dml.reporting import readable_errors

            readable_errors(function)(*args, **kwargs)

        return called

    return register
