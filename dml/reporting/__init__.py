"""What people read of runs: tables, comparisons over seeds, and messages."""

from dml.reporting.comparison import Comparison, compare, single_baseline
from dml.reporting.departures import departures, print_departures
from dml.reporting.ensembles import concatenated_metrics, separated_metrics
from dml.reporting.former_names import refuse_former_names
from dml.reporting.page import report_finished_run, write_report
from dml.reporting.published import published
from dml.reporting.report import print_tables, report_runs
from dml.reporting.results import Run, Setting, find_runs, group_by_setting, missing_folds
from dml.reporting.statistics import Estimate, estimate, paired_difference
from dml.reporting.sweep import sweep_table, winner_command
from dml.reporting.tables import (
    FORMATS,
    csv_table,
    latex_tables,
    markdown_tables,
    table_paths,
    terminal_tables,
)
from dml.reporting.terminal import (
    metrics_table,
    print_evaluation,
    print_results,
    print_verification,
    readable_errors,
)

__all__ = [
    "FORMATS",
    "Comparison",
    "Estimate",
    "Run",
    "Setting",
    "compare",
    "concatenated_metrics",
    "csv_table",
    "departures",
    "estimate",
    "find_runs",
    "group_by_setting",
    "latex_tables",
    "markdown_tables",
    "metrics_table",
    "missing_folds",
    "paired_difference",
    "print_departures",
    "print_evaluation",
    "print_results",
    "print_tables",
    "print_verification",
    "published",
    "readable_errors",
    "refuse_former_names",
    "report_finished_run",
    "report_runs",
    "separated_metrics",
    "single_baseline",
    "sweep_table",
    "table_paths",
    "terminal_tables",
    "winner_command",
    "write_report",
]
