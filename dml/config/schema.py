"""The schema of the trunk of the configuration.

Groups that name a component (``backbone``, ``pooling``, ``loss``, ...) are free-form here and are checked
against the signature of their ``_target_`` when they are built; everything else is typed, so that a
misspelt key or a value of the wrong type is refused before anything starts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from dml.config.options import (
    EvaluatorOptions,
    LearningRates,
    MemoryOptions,
    TrainerOptions,
    ZeroShotOptions,
    at_least,
    option,
)
from dml.lookups import register_lookups
from dml.migrations import FORMAT

__all__ = ["EXECUTION", "PARTS", "TrainConfig", "register_schema", "schema"]


@dataclass
class PathsConfig:
    data: str = MISSING  # where the data sets lie
    runs: str = MISSING  # where run folders are written


@dataclass
class TransformConfig:
    size: int = MISSING  # side of what the model sees, in pixels
    short_side: int | None = MISSING  # of images as they are read from files, in pixels; null: as they are
    train: Any = MISSING
    evaluation: Any = MISSING


def _part(kind: type, *, execution: bool = False) -> Any:
    """A part of a class all of whose values are open at first."""
    return option(execution=execution, default_factory=lambda: kind)


@dataclass
class TrainConfig:
    format: int = option(execution=True, default=FORMAT)  # version of what is saved
    seed: int = MISSING
    num_workers: int | str = option(  # auto, or how many processes load images; 0: the main one does
        execution=True, default=MISSING
    )
    embedding_dim: int = option(at_least(1), default=MISSING)
    resume: str | None = option(execution=True, default=None)  # a run folder to be continued, or auto
    accept_changes: bool = option(execution=True, default=False)  # resume with values that change its numbers
    trust: list[str] = option(  # packages that the run to resume may name; never saved
        execution=True, default_factory=list
    )
    paths: PathsConfig = _part(PathsConfig, execution=True)
    dataset: Any = MISSING
    protocol: Any = MISSING
    transform: TransformConfig = _part(TransformConfig)
    sampler: Any = MISSING
    backbone: Any = MISSING
    pooling: Any = MISSING
    loss: Any = MISSING
    miner: Any = MISSING
    memory: MemoryOptions = _part(MemoryOptions)
    zero_shot: ZeroShotOptions = _part(ZeroShotOptions)
    optimizer: Any = MISSING
    learning_rates: LearningRates = _part(LearningRates)
    scheduler: Any = MISSING
    trainer: TrainerOptions = _part(TrainerOptions)
    evaluator: EvaluatorOptions = _part(EvaluatorOptions)
    metric: Any = option(default_factory=dict)  # by name; beside those that are always counted
    logger: Any = option(execution=True, default_factory=dict)  # by name; beside history.csv and steps.csv


def _execution(kind: type, prefix: str = "") -> list[str]:
    """The dotted keys whose fields are marked so, a whole part by its own."""
    hints, keys = get_type_hints(kind), []
    for entry in fields(kind):
        if entry.metadata.get("execution"):
            keys.append(prefix + entry.name)
        elif is_dataclass(hints[entry.name]):
            keys += _execution(hints[entry.name], f"{prefix}{entry.name}.")
    return keys


PARTS = tuple(name for name, kind in get_type_hints(TrainConfig).items() if is_dataclass(kind))
"""The parts that are typed."""

EXECUTION = (
    "dataset.cache",
    "dataset.cache_folder",
    "dataset.check",
    "loss._takes_",
    *_execution(TrainConfig),
)
"""How a run is executed: what changes neither its meaning nor, beyond rounding, its numbers."""


def schema() -> DictConfig:
    """The schema, all values open that are to come from configs/, to be merged into."""
    node: DictConfig = OmegaConf.structured(TrainConfig)
    for key in PARTS:
        OmegaConf.set_readonly(node[key], None)  # as which OmegaConf takes the nodes of a frozen class
    return node


def register_schema() -> None:
    """Make the schema known to Hydra under the name that ``configs/train.yaml`` starts from, and the lookups."""
    ConfigStore.instance().store(name="schema", node=schema())
    register_lookups()
