"""Commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dml.commands.app import app, command
from dml.commands.completion import complete_overrides
from dml.installation import CONFIGS
from dml.reporting.endings import readable_errors

__all__ = ["sweep", "train"]


@app.command(
    "train",
    add_help_option=False,  # Hydra's has the groups and what they offer
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@readable_errors
def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", autocompletion=complete_overrides)
    ] = None,
) -> None:
    """Train an embedding and evaluate it on classes it never saw.

    As in: dml train dataset=folder dataset.root=photos

    Everything that follows is for Hydra: -m tries all combinations of lists, --config-dir adds configurations.
    """
    from dml.commands.entry import compose_and_train

    compose_and_train(overrides or [])


@command("sweep")
def sweep(
    space: Annotated[
        str,
        typer.Argument(metavar="SPACE", help="A file in configs/sweep/, without its ending."),
    ],
    trials: Annotated[int, typer.Option(help="How many, those of earlier calls counted.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="What every trial has besides, as behind dml train.",
            autocompletion=complete_overrides,
        ),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the trials are recorded; runs/sweeps/SPACE if not given."),
    ] = None,
) -> None:
    """Search for settings by the validation classes.

    As in: dml sweep gsp --trials 30. The same command goes on after a stop or a kill.
    """
    from rich.console import Console

    from dml.composition import compose
    from dml.reporting.sweep import sweep_table, winner_command
    from dml.sweep import read_space, run_sweep

    space = space.removesuffix(".yaml")
    found = read_space(CONFIGS / "sweep" / f"{space}.yaml")
    found.overrides += overrides or []
    compose(found.overrides)  # what is wrong with it is said once, not by every trial
    study = run_sweep(found, Path(folder or f"runs/sweeps/{space}"), compose, trials=trials)
    console = Console()
    console.print(sweep_table(study))
    if winner := winner_command(study, found.overrides):
        console.print(f"the best one: {winner}", soft_wrap=True, highlight=False, markup=False)
