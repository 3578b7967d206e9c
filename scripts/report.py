"""Compare finished runs: python scripts/report.py 'runs=runs/**' baseline=pooling=GlobalAveragePooling

runs=PATTERN        run folders; ** stands for any depth
baseline=TEXT       part of the label of the setting that the others are compared with, over paired seeds
metrics=[a,b]       figures of the test classes; [recall@1,map@r] if not given
output=FILE.md      writes the table as Markdown too
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING
from rich.console import Console

from dml.config import parse_arguments
from dml.reporting import (
    comparison_rows,
    find_runs,
    group_by_setting,
    markdown_table,
    readable_errors,
    terminal_table,
)


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
    finished, unfinished = find_runs(arguments.runs)
    rows = comparison_rows(group_by_setting(finished), arguments.metrics, arguments.baseline)
    console = Console()
    console.print(terminal_table(rows))
    for folder in unfinished:
        console.print(
            f"unfinished, left out: {folder}; go on with resume={folder}", soft_wrap=True, markup=False
        )
    if arguments.output:
        Path(arguments.output).write_text(markdown_table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
