from .comparison import Comparison, compare, single_baseline
from .departures import departures, print_departures
from .endings import readable_errors
from .ensembles import concatenated_metrics, separated_metrics
from .former_names import refuse_former_names
from .page import report_finished_run, write_report
from .published import published
from .report import print_tables, report_runs
from .results import Run, Setting, find_runs, group_by_setting, missing_folds
from .statistics import Estimate, estimate, paired_difference
from .sweep import sweep_table, winner_command
from .tables import (
    FORMATS,
    csv_table,
    latex_tables,
    markdown_tables,
    table_paths,
    terminal_tables,
)
from .terminal import (
    metrics_table,
    print_evaluation,
    print_results,
    print_verification,
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
