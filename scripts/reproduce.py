"""Make a table, from the missing runs to the figures: python scripts/reproduce.py table=emoji_mlrc processes=2

table=NAME        a file in configs/table/
run=false         only prints the commands and reports what is finished
limit=STEPS       a rehearsal: that many steps for each run, in a folder of its own
processes=2       runs at a time; each takes its share of the cores. 1 if not given
folder=DIR        where the runs lie; runs/tables/NAME if not given
output=FILE       writes the tables too, as .md, .csv or .tex; without an ending as all three

A run that was interrupted goes on where its last checkpoint stands; one that is finished is not repeated.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import print_tables, readable_errors, table_paths
from dml.reporting.reproduction import check_jobs, plan_jobs, read_table, report_table, run_jobs


@dataclass
class Arguments:
    table: str = MISSING
    run: bool = True
    limit: int | None = None
    processes: int = 1
    folder: str | None = None
    output: str | None = None


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    paths = table_paths(arguments.output) if arguments.output else []
    name = arguments.table if arguments.limit is None else f"{arguments.table}_limit{arguments.limit}"
    folder = Path(arguments.folder or f"runs/tables/{name}")
    table = read_table(arguments.table)
    jobs = plan_jobs(table, folder, limit=arguments.limit)
    check_jobs(jobs)
    for job in jobs:
        print(f"{job.state:<10}  {job.command}", flush=True)
    failed = 0
    if arguments.run:
        for line in run_jobs(jobs, processes=arguments.processes):
            print(line, flush=True)
            failed += " FAILED: " in line
    print_tables(*report_table(table, folder, table.metrics), paths)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
