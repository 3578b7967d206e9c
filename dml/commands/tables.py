"""Commands about many runs: compare them, or make a table or a study from the missing runs to the figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dml.commands.app import Data, Device, Output, Trust, command
from dml.reporting.endings import needs

if TYPE_CHECKING:
    from dml.reporting.reproduction import Job

__all__ = ["report", "reproduce", "study"]

Train = Annotated[
    bool, typer.Option("--run/--no-run", help="Whether to run what is missing, or only report.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="STEPS",
        help="A rehearsal: that many steps for each run, measured on few classes, in a folder of its own.",
    ),
]
Processes = Annotated[int, typer.Option(help="Runs at a time, each on its share of the cores.")]


@command("report")
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Folders of runs on one data set, or patterns of them in quotes, where ** stands for any depth.",
        ),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Part of the label of the setting that the others are compared with.",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="A figure of the test classes; may be repeated. Else recall@1, map@r.",
        ),
    ] = None,
    output: Output = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a page, too: of one run as training does, of several side by side with the first.",
        ),
    ] = None,
    data: Data = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Compare finished runs of one data set, in a table and on a page.

    As in: dml report 'runs/**' --baseline pooling=GlobalAveragePooling

    As in: dml report runs/gap runs/gsp --html both.html

    --data, --device and --trust are for the page, which shows images and what the model makes of them.
    """
    from dml.reporting.report import print_tables, report_runs
    from dml.reporting.tables import table_paths

    paths = table_paths(output) if output else []
    comparisons, notes = report_runs(runs, metrics or ["recall@1", "map@r"], baseline=baseline)
    print_tables(comparisons, notes, paths)
    if html is not None:
        from dml.reporting.page import write_report
        from dml.reporting.results import find_runs

        folders = [run.folder for run in find_runs(*runs)[0]]
        print(write_report(folders, html, data=data, device=device, trust=trust or []))


def _axis(flag: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, metavar="NAME", help="Of a product, this one alone; may be repeated."
    )
    return option


@command("reproduce")
def reproduce(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="A file in configs/table/, without its ending."),
    ],
    sets: Annotated[list[str] | None, _axis("--set")] = None,
    settings: Annotated[list[str] | None, _axis("--setting")] = None,
    losses: Annotated[list[str] | None, _axis("--loss")] = None,
    poolings: Annotated[list[str] | None, _axis("--pooling")] = None,
    run: Train = True,
    limit: Limit = None,
    processes: Processes = 1,
    folder: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where the runs lie; runs/tables/TABLE if not given. Several tables lie in a folder of it each.",
        ),
    ] = None,
    reading: Annotated[
        str | None,
        typer.Option(
            metavar="val", help="The figures of the validation classes, to decide by, not those of the test."
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Make a table, from the missing runs to the figures.

    A product gives a table for each of its data sets and settings, in FILE_NAME each. A run that was interrupted goes
    on where its last checkpoint stands; one that is finished is not repeated.
    """
    from dml.reporting.report import print_tables
    from dml.reporting.reproduction import check_jobs, plan_jobs, report_tables, table_folders
    from dml.reporting.table_files import read_tables

    axes = {"sets": sets, "settings": settings, "losses": losses, "poolings": poolings}
    tables = read_tables(table, {axis: names for axis, names in axes.items() if names})
    paths = {one.name: output_paths(output, one.name, len(tables)) for one in tables}
    folders = table_folders(tables, folder, limit=limit)
    jobs = [job for one in tables for job in plan_jobs(one, folders[one.name], limit=limit)]
    check_jobs(jobs)
    for job in jobs:
        print(f"{job.state:<10}  {job.command}", flush=True)
    failed = run and _run(jobs, processes)
    for name, (comparisons, notes) in report_tables(tables, folders, reading=reading).items():
        if len(tables) > 1:
            print(f"\n{name}")
        print_tables(comparisons, notes, paths[name] if comparisons else [])
    if failed:
        sys.exit(1)


def output_paths(output: str | None, name: str, tables: int) -> list[Path]:
    """The files of a table: those that were asked for, or with its name behind theirs if there are several."""
    from dml.reporting.tables import table_paths

    if output is None:
        return []
    path = Path(output)
    return table_paths(output if tables == 1 else str(path.with_name(f"{path.stem}_{name}{path.suffix}")))


@command("study")
def study(
    run: Train = True,
    limit: Limit = None,
    processes: Processes = 2,
    folder: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the runs lie; runs/study if not given.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Where results.md and the figures go; the folder of the runs if not given."
        ),
    ] = None,
) -> None:
    """Make the study of what a pooling selects: tables and figures.

    A run that was interrupted goes on where its last checkpoint stands; one that is finished is not repeated.
    """
    needs("matplotlib", "drawing")
    from dml.reporting.reproduction import check_jobs
    from dml.reporting.study import study_jobs
    from dml.reporting.study_figures import write_study

    place = Path(folder or ("runs/study" if limit is None else f"runs/study_limit{limit}"))
    jobs = study_jobs(place, limit=limit)
    check_jobs(jobs)
    print(f"{len(jobs)} runs, {[job.state for job in jobs].count('finished')} finished", flush=True)
    failed = run and _run(jobs, processes)
    for path in write_study(place, Path(output or place)):
        print(path)
    if failed:
        sys.exit(1)


def _run(jobs: Sequence[Job], processes: int) -> bool:
    """Run what is missing, with a line on each run when it ends; whether one has failed."""
    from dml.reporting.reproduction import run_jobs

    failed = False
    for line in run_jobs(jobs, processes=processes):
        print(line, flush=True)
        failed |= " FAILED: " in line
    return failed
