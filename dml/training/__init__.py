"""The training loop and what surrounds it: optimisation, checkpoints, interruption, loggers."""

from dml.training.checkpoint import load_checkpoint, save_checkpoint
from dml.training.interruption import Interrupted
from dml.training.loggers import HistoryLogger, Logger, ProgressLogger, TensorBoardLogger
from dml.training.optimization import constant, one_cycle, parameter_groups
from dml.training.trainer import NonFiniteLossError, Trainer

__all__ = [
    "HistoryLogger",
    "Interrupted",
    "Logger",
    "NonFiniteLossError",
    "ProgressLogger",
    "TensorBoardLogger",
    "Trainer",
    "constant",
    "load_checkpoint",
    "one_cycle",
    "parameter_groups",
    "save_checkpoint",
]
