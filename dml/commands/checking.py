"""The command that tries a part."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dml.commands.app import command
from dml.commands.completion import complete_overrides

__all__ = ["check"]


@command("check")
def check(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Of a part, DIR/GROUP/NAME.yaml, as behind --config-dir.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="What else is chosen, as behind dml train.",
            autocompletion=complete_overrides,
        ),
    ] = None,
) -> None:
    """Try whether a part keeps what its kind promises.

    As in: dml check my_configs/pooling/mine.yaml

    Shapes, gradients, a batch of one, tokens, repetition, state dict and export of a pooling, a backbone or a loss;
    what a data set, a logger or a metric has to give; of any other group, whether its components take their
    arguments. Ends with status 1 if something does not hold.
    """
    from dml.checks import check_file

    findings = []
    for finding in check_file(file, overrides or ()):
        findings.append(finding)
        print(f"{'ok   ' if finding.problem is None else 'FAILS'}  {finding.promise}", flush=True)
        if finding.problem is not None:
            print(f"       {finding.problem}", flush=True)
    failed = sum(finding.problem is not None for finding in findings)
    print(
        f"{file}: " + (f"{failed} of {len(findings)} do not hold" if failed else f"all {len(findings)} hold")
    )
    if failed:
        sys.exit(1)
