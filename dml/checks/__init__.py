"""Contract tests of a part in a YAML file, for parts of this project and of anybody else; what `dml check` runs."""

from dml.checks.running import Finding, check_file

__all__ = ["Finding", "check_file"]
