"""The training loop and what surrounds it: gradients, optimisation, checkpoints, interruption, loggers."""

from dml.contracts import Logger
from dml.training.best_on_test import BestOnTest, load_best_on_test
from dml.training.checkpoint import load_checkpoint, load_part, save_checkpoint
from dml.training.class_mapping import ClassMapping
from dml.training.loggers import (
    HistoryLogger,
    ProgressLogger,
    StepLogger,
    read_steps,
)
from dml.training.optimization import (
    batchnorm_layers,
    constant,
    freeze_batchnorm,
    one_cycle,
    parameter_groups,
    plateau,
)
from dml.training.readings import NonFiniteLossError
from dml.training.replicas import ReplicaError
from dml.training.slow_steps import SlowStepLogger
from dml.training.trainer import Trainer, Validation

__all__ = [
    "BestOnTest",
    "ClassMapping",
    "HistoryLogger",
    "Logger",
    "NonFiniteLossError",
    "ProgressLogger",
    "ReplicaError",
    "SlowStepLogger",
    "StepLogger",
    "Trainer",
    "Validation",
    "batchnorm_layers",
    "constant",
    "freeze_batchnorm",
    "load_best_on_test",
    "load_checkpoint",
    "load_part",
    "one_cycle",
    "parameter_groups",
    "plateau",
    "read_steps",
    "save_checkpoint",
]
