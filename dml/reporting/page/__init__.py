"""A run as one page of HTML that needs nothing else: what was trained on what, how good it is, and where it fails."""

from dml.reporting.page.writing import report_finished_run, write_report

__all__ = ["report_finished_run", "write_report"]
