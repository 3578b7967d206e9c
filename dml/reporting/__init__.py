"""What people read of runs: tables, comparisons over seeds, and messages."""

from dml.reporting.results import (
    Estimate,
    Run,
    Setting,
    estimate,
    find_runs,
    group_by_setting,
    paired_difference,
)
from dml.reporting.tables import comparison_rows, markdown_table, terminal_table
from dml.reporting.terminal import (
    metrics_table,
    print_evaluation,
    print_results,
    print_verification,
    readable_errors,
)

__all__ = [
    "Estimate",
    "Run",
    "Setting",
    "comparison_rows",
    "estimate",
    "find_runs",
    "group_by_setting",
    "markdown_table",
    "metrics_table",
    "paired_difference",
    "print_evaluation",
    "print_results",
    "print_verification",
    "readable_errors",
    "terminal_table",
]
