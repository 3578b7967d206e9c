"""From a configuration to finished parts. Everything that can be refused is refused here, before anything runs."""

from dml.assembly.checking import check_components
from dml.assembly.loggers import check_loggers, open_loggers
from dml.assembly.loop import build_trainer, environment_of
from dml.assembly.objective import build_objective, declared
from dml.assembly.parts import (
    NO_WEIGHTS,
    build_data,
    build_evaluator,
    build_metrics,
    build_model,
    build_part,
    named_parts,
    read_data,
)

__all__ = [
    "NO_WEIGHTS",
    "build_data",
    "build_evaluator",
    "build_metrics",
    "build_model",
    "build_objective",
    "build_part",
    "build_trainer",
    "check_components",
    "check_loggers",
    "declared",
    "environment_of",
    "named_parts",
    "open_loggers",
    "read_data",
]
