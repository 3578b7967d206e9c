"""The configuration: schema and options, files, how two compare, and the way from a node to an object."""

from dml.config.comparison import config_differences, settings, to_plain
from dml.config.components import alternatives, argument_types, build, check_component, locate
from dml.config.files import check_config, load_config, read_config, settle
from dml.config.options import (
    PRECISIONS,
    EvaluatorOptions,
    MemoryOptions,
    TrainerOptions,
    ZeroShotOptions,
    checked,
)
from dml.config.refusals import groups, refusal
from dml.config.schema import EXECUTION, TrainConfig, register_schema
from dml.errors import ConfigError

__all__ = [
    "EXECUTION",
    "PRECISIONS",
    "ConfigError",
    "EvaluatorOptions",
    "MemoryOptions",
    "TrainConfig",
    "TrainerOptions",
    "ZeroShotOptions",
    "alternatives",
    "argument_types",
    "build",
    "check_component",
    "check_config",
    "checked",
    "config_differences",
    "groups",
    "load_config",
    "locate",
    "read_config",
    "refusal",
    "register_schema",
    "settings",
    "settle",
    "to_plain",
]
