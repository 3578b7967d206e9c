"""Make a table, from the missing runs to the figures: python scripts/reproduce.py table=emoji_mlrc processes=2

table=NAME        a file in configs/table/; a product gives a table for each of its data sets and settings
sets=[cub,cars]   of a product, these alone; likewise settings=, losses= and poolings=
run=false         only prints the commands and reports what is finished
limit=STEPS       a rehearsal: that many steps for each run, in a folder of its own
processes=2       runs at a time; each takes its share of the cores. 1 if not given
folder=DIR        where the runs lie; runs/tables/NAME if not given. Several tables lie in a folder of it each
reading=val       the figures of the validation classes instead of those of the test: to decide by
output=FILE       writes the tables too, as .md, .csv or .tex; without an ending as all three. Several tables go to
                  FILE_NAME each

A run that was interrupted goes on where its last checkpoint stands; one that is finished is not repeated.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import print_tables, readable_errors, table_paths
from dml.reporting.reproduction import check_jobs, plan_jobs, report_tables, run_jobs, table_folders
from dml.reporting.table_files import AXES, read_tables


@dataclass
class Arguments:
    table: str = MISSING
    sets: list[str] | None = None
    settings: list[str] | None = None
    losses: list[str] | None = None
    poolings: list[str] | None = None
    run: bool = True
    limit: int | None = None
    processes: int = 1
    folder: str | None = None
    reading: str | None = None
    output: str | None = None


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    narrowed = {axis: values for axis in AXES if (values := getattr(arguments, axis)) is not None}
    tables = read_tables(arguments.table, narrowed)
    paths = {table.name: output_paths(arguments.output, table.name, len(tables)) for table in tables}
    folders = table_folders(tables, arguments.folder, limit=arguments.limit)
    jobs = [job for table in tables for job in plan_jobs(table, folders[table.name], limit=arguments.limit)]
    check_jobs(jobs)
    for job in jobs:
        print(f"{job.state:<10}  {job.command}", flush=True)
    failed = 0
    if arguments.run:
        for line in run_jobs(jobs, processes=arguments.processes):
            print(line, flush=True)
            failed += " FAILED: " in line
    for name, (comparisons, notes) in report_tables(tables, folders, reading=arguments.reading).items():
        if len(tables) > 1:
            print(f"\n{name}")
        print_tables(comparisons, notes, paths[name] if comparisons else [])
    if failed:
        sys.exit(1)


def output_paths(output: str | None, name: str, tables: int) -> list[Path]:
    """The files of a table: those that were asked for, or with its name behind theirs if there are several."""
    if output is None:
        return []
    path = Path(output)
    return table_paths(output if tables == 1 else str(path.with_name(f"{path.stem}_{name}{path.suffix}")))


if __name__ == "__main__":
    main()
