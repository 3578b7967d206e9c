"""Commands that measure a finished run again, or show what it does."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dml.commands.app import Checkpoint, Data, Device, Run, Trust, command
from dml.reporting.endings import needs

__all__ = ["attention", "evaluate", "grid", "verify"]


@command("evaluate")
def evaluate(
    run: Run,
    without_leaks: Annotated[
        bool,
        typer.Option(
            "--without-leaks", help="And without images that are near-duplicates of ones trained on."
        ),
    ] = False,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Measure a finished run again: equal to the last digit?"""
    from dml.reporting.terminal import print_evaluation
    from dml.runs import evaluate_run

    metrics = evaluate_run(run, checkpoint=checkpoint, data=data, device=device, trust=trust or ())
    equal = print_evaluation(run, metrics, compare=checkpoint == "best")
    if without_leaks:
        from dml.index.leaks import evaluate_without_leaks
        from dml.index.printing import print_without_leaks

        print_without_leaks(
            *evaluate_without_leaks(run, checkpoint=checkpoint, data=data, device=device, trust=trust or ())
        )
    if not equal:
        sys.exit(1)


@command("verify")
def verify(
    run: Run,
    steps: Annotated[int, typer.Option(help="How many steps are repeated.")] = 20,
    data: Data = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The weights that the backbone started from, if they lie elsewhere by now."
        ),
    ] = None,
    trust: Trust = None,
) -> None:
    """Train the first steps of a run again: are they identical?

    Nothing in the folder of the run is changed.
    """
    from dml.reporting.terminal import print_verification
    from dml.verification import repeat_steps

    if not print_verification(repeat_steps(run, steps, data=data, weights=weights, trust=trust or ())):
        sys.exit(1)


Drawing = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A .png, .pdf or .svg; in the folder of the run if not given."),
]


@command("attention")
def attention(
    run: Run,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE", help="Files, folders or patterns; test images if there are none."),
    ] = None,
    count: Annotated[int, typer.Option(help="Rows of the figure, at most.")] = 6,
    seed: Annotated[int, typer.Option(help="Chooses the test images.")] = 0,
    output: Drawing = None,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Draw what the model of a run looks at.

    Red locations count more than in average pooling, blue ones less; numbers are multiples of that weight. Beside the
    weights stand the prototypes that receive most of an image, each with the locations that its part comes from.
    """
    needs("matplotlib", "drawing")
    from dml.reporting.figures import figure_path, save_figure
    from dml.reporting.weight_maps import weight_maps_of_run

    path = figure_path(output or f"{run}/attention.png")
    found = weight_maps_of_run(
        run,
        images or [],
        count=count,
        seed=seed,
        checkpoint=checkpoint,
        data=data,
        device=device,
        trust=trust or (),
    )
    save_figure(found.figure, path)
    print(f"{found.drawn} of {found.total:,} images: {path}")


@command("grid")
def grid(
    run: Run,
    count: Annotated[int, typer.Option(help="Queries, a row each.")] = 6,
    neighbours: Annotated[int, typer.Option(help="Of each query, the nearest first.")] = 8,
    order: Annotated[str, typer.Option(metavar="hardest|easiest|random", help="Which queries.")] = "hardest",
    seed: Annotated[int, typer.Option(help="Orders queries that are equally hard.")] = 0,
    output: Drawing = None,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Draw test queries and what a run finds for them.

    The hardest queries have the lowest average precision up to rank R, the number of images that each should find;
    equals come in an order drawn by the seed. A neighbour of the right class has a thin green frame and ✓, another a
    thick dashed red one and ✗, both with their similarity.
    """
    needs("matplotlib", "drawing")
    from dml.reporting.figures import figure_path, save_figure
    from dml.reporting.retrieval_grid import retrieval_grid_of_run

    path = figure_path(output or f"{run}/retrieval_grid.png")
    figure = retrieval_grid_of_run(
        run,
        count=count,
        neighbours=neighbours,
        order=order,
        seed=seed,
        checkpoint=checkpoint,
        data=data,
        device=device,
        trust=trust or (),
    )
    save_figure(figure, path)
    print(path)
