"""The command itself, how its parts join it, and the arguments that several of them take.

A command is a function: its name, its arguments and their help are those that people see. It imports what it runs
when it is called, so that help and completion take no longer than Python itself.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

import dml
from dml.command_line import PROGRAM
from dml.reporting.endings import readable_errors

__all__ = ["Checkpoint", "Data", "Device", "Output", "Run", "Trust", "app", "command", "main"]

F = TypeVar("F", bound=Callable[..., None])

Run = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.")]
Checkpoint = Annotated[str, typer.Option(metavar="best|last", help="Which weights of the run.")]
Data = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Where the data sets lie, if not where they lay in training."),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...; auto takes the GPU if there is one."),
]
Output = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Write the tables too, as .md, .csv or .tex; without an ending as all three."
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE",
        help="A package of your own that the run may name; may be repeated. DML_TRUST=PACKAGE does the same.",
    ),
]

app = typer.Typer(
    help="Train image embeddings and measure them on classes that were never seen in training.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dml {dml.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


class _Command(TyperCommand):
    """A command that takes texts as they are typed, and says so to whoever types ``key=value``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {str(parameter.name): parameter for parameter in self.params}
        keys = [argument.partition("=")[:2] for argument in args if not Path(argument).exists()]
        if any(equals and key in known for key, equals in keys):
            words = [word for argument in args for word in _as_now(argument, known)]
            ctx.fail(
                f"arguments are typed without a key and =, as in: {shlex.join([*ctx.command_path.split(), *words])}"
            )
        return super().parse_args(ctx, args)


def _as_now(argument: str, known: Mapping[str, Any]) -> list[str]:
    """What ``key=value``, or ``key=[value,value]``, is today."""
    key, equals, value = argument.partition("=")
    if not equals or key not in known:
        return [argument]
    parameter = known[key]
    if getattr(parameter, "is_flag", False):
        return [] if value == "true" else list(parameter.secondary_opts)
    values = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
    flag = parameter.opts[:1] if parameter.param_type_name == "option" else []
    return [word for one in values for word in (*flag, one.strip())]


def command(name: str, owner: typer.Typer = app) -> Callable[[F], F]:
    """Make a function a command of this name; errors that the user can mend become sentences.

    owner: what it is a command of, ``dml`` itself or a group such as ``dml index``.
    """

    def join(function: F) -> F:
        owner.command(name, cls=_Command)(readable_errors(function))
        return function

    return join


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, or with those that were typed."""
    sys.argv = [PROGRAM, *(sys.argv[1:] if arguments is None else arguments)]
    app(prog_name=PROGRAM)
