"""From a configuration to finished parts. Everything that can be refused is refused here, before anything runs."""

from dml.assembly.loggers import open_loggers
from dml.assembly.loop import build_trainer, environment_of
from dml.assembly.objective import build_objective
from dml.assembly.parts import build_data, build_evaluator, build_model

__all__ = [
    "build_data",
    "build_evaluator",
    "build_model",
    "build_objective",
    "build_trainer",
    "environment_of",
    "open_loggers",
]
