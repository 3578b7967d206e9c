"""The controlled study of what a pooling selects, from the missing runs to tables and figures: python scripts/study.py

run=false         only reports what is finished, and draws it
limit=STEPS       a rehearsal: that many steps for each run, in a folder of its own
processes=2       runs at a time, each on its share of the cores; 2 if not given
folder=DIR        where the runs lie; runs/study if not given
output=DIR        where results.md and the figures go; the folder of the runs if not given

A run that was interrupted goes on where its last checkpoint stands; one that is finished is not repeated.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from dml.config import parse_arguments
from dml.reporting import readable_errors
from dml.reporting.reproduction import check_jobs, run_jobs
from dml.reporting.study import study_jobs
from dml.reporting.study_figures import write_study


@dataclass
class Arguments:
    run: bool = True
    limit: int | None = None
    processes: int = 2
    folder: str | None = None
    output: str | None = None


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    short = "" if arguments.limit is None else f"_limit{arguments.limit}"
    folder = Path(arguments.folder or f"runs/study{short}")
    jobs = study_jobs(folder, limit=arguments.limit)
    check_jobs(jobs)
    states = [job.state for job in jobs]
    print(f"{len(jobs)} runs, {states.count('finished')} finished", flush=True)
    failed = 0
    if arguments.run:
        for line in run_jobs(jobs, processes=arguments.processes):
            print(line, flush=True)
            failed += " FAILED: " in line
    for path in write_study(folder, Path(arguments.output or folder)):
        print(path)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
