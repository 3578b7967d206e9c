"""Compare finished runs: python scripts/report.py 'runs=runs/**' baseline=pooling=GlobalAveragePooling

runs=PATTERN        run folders of one data set; ** stands for any depth
baseline=TEXT       part of the label of the setting that the others are compared with, over paired seeds
metrics=[a,b]       figures of the test classes; [recall@1,map@r] if not given
output=FILE         writes the tables too, as .md, .csv or .tex; without an ending as all three
"""

import sys
from dataclasses import dataclass, field

from omegaconf import MISSING

from dml.config import parse_arguments
from dml.reporting import print_tables, readable_errors, report_runs, table_paths


@dataclass
class Arguments:
    runs: str = MISSING
    baseline: str | None = None
    metrics: list[str] = field(default_factory=lambda: ["recall@1", "map@r"])
    output: str | None = None


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    paths = table_paths(arguments.output) if arguments.output else []
    comparisons, notes = report_runs(arguments.runs, arguments.metrics, baseline=arguments.baseline)
    print_tables(comparisons, notes, paths)


if __name__ == "__main__":
    main()
