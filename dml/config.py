"""The schema of the trunk of the configuration, and the one way from a node to an object.

Groups that name a component (``backbone``, ``pooling``, ``loss``, ...) are free-form here and are checked
against the signature of their ``_target_`` when they are built; everything else is typed below, so that a
misspelt key or a value of the wrong type is refused before anything starts.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.errors import ConfigError, MissingFileError, UserError, user_files
from dml.lookups import register_lookups
from dml.migrations import FORMAT, migrate_config
from dml.trust import read_written_out, refuse_untrusted

__all__ = [
    "EXECUTION",
    "ConfigError",
    "TrainConfig",
    "build",
    "check_config",
    "config_differences",
    "late_values",
    "load_config",
    "parse_arguments",
    "read_config",
    "register_schema",
    "settings",
    "to_plain",
]


EXECUTION = (
    "accept_changes",
    "dataset.cache",
    "dataset.cache_folder",
    "evaluator.backend",
    "evaluator.batch_size",
    "format",
    "logger",
    "num_workers",
    "paths",
    "resume",
    "trainer.compile",
    "trainer.device",
    "trainer.log_every",
    "trainer.micro_batch",
    "trainer.save_every",
    "trust",
)
"""How a run is executed: what changes neither its meaning nor, beyond rounding, its numbers."""

PLACES = ("backbone.checkpoint", "backbone.weights", "dataset.name", "dataset.path", "dataset.root")
"""Files and folders, which may be moved: only their own names say which ones they are."""


@dataclass
class PathsConfig:
    data: str = MISSING  # where the data sets lie
    runs: str = MISSING  # where run folders are written


@dataclass
class TransformConfig:
    size: int = MISSING  # side of what the model sees, in pixels
    short_side: int | None = MISSING  # of pictures as they are read from files, in pixels; null: as they are
    train: Any = MISSING
    evaluation: Any = MISSING


@dataclass
class ZeroShotConfig:
    weight: float = MISSING  # λ; 0 switches the zero-shot loss off
    ridge: float = MISSING  # ε of the regression
    scale: float = MISSING  # s of the softmax over class codes


@dataclass
class MemoryConfig:
    """Past embeddings that pair losses are also computed against."""

    batches: int = MISSING  # size; 0 switches the memory off
    start_step: int = MISSING  # steps before embeddings are kept and used
    weight: float = MISSING  # of the loss against the memory, beside the loss of the batch


@dataclass
class LearningRatesConfig:
    """Multipliers of ``optimizer.lr``, one for each kind of parameter."""

    backbone: float = MISSING
    head: float = MISSING
    prototypes: float = MISSING
    proxies: float = MISSING
    class_codes: float = MISSING


@dataclass
class TrainerConfig:
    max_steps: int = MISSING  # 0 evaluates the untrained model
    eval_every: int = MISSING  # steps
    log_every: int = MISSING  # steps
    save_every: str | None = (
        MISSING  # between validations: "10 min" or "500 steps"; null: only at validations
    )
    gradient_clip: float | None = MISSING  # largest norm of the gradient; null leaves it alone
    frozen_batchnorm: bool = MISSING
    warmup_steps: int = MISSING  # steps in which the backbone rests
    initialisation_batches: int = MISSING  # batches whose local features initialise the prototypes
    initialisation_locations: int | None = MISSING  # how many of those at most; null: all
    select_by: str = MISSING  # validation metric that chooses best.pt
    patience: int | None = MISSING  # validations without a better figure that end the run; null: none do
    ema: float | None = (
        MISSING  # decay of a running mean of the weights, which is then what counts; null: none
    )
    precision: str = MISSING  # of the model in training: fp32, bf16 or fp16
    micro_batch: int | None = MISSING  # images in the model at a time; null: the whole batch
    compile: bool = MISSING
    deterministic: bool = MISSING  # only deterministic algorithms on a GPU too
    tf32: bool = MISSING  # float32 of 10 bits on a GPU
    device: str = MISSING  # auto, cpu, cuda, cuda:1, ...


@dataclass
class LoggerConfig:
    tensorboard: bool = MISSING


@dataclass
class EvaluatorConfig:
    recall_at: list[int] = MISSING
    batch_size: int = MISSING
    backend: str = MISSING  # auto, faiss or torch


@dataclass
class TrainConfig:
    format: int = FORMAT  # version of what is saved
    seed: int = MISSING
    num_workers: int | str = MISSING  # auto, or how many processes load images; 0: the main one does
    embedding_dim: int = MISSING
    resume: str | None = None  # a run folder that is to be continued, or auto
    accept_changes: bool = False  # resume with values that change the numbers of the run
    trust: list[str] = field(default_factory=list)  # packages that the run to resume may name; never saved
    paths: PathsConfig = field(default_factory=PathsConfig)
    dataset: Any = MISSING
    protocol: Any = MISSING
    transform: TransformConfig = field(default_factory=TransformConfig)
    sampler: Any = MISSING
    backbone: Any = MISSING
    pooling: Any = MISSING
    loss: Any = MISSING
    miner: Any = MISSING
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    zero_shot: ZeroShotConfig = field(default_factory=ZeroShotConfig)
    optimizer: Any = MISSING
    learning_rates: LearningRatesConfig = field(default_factory=LearningRatesConfig)
    scheduler: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


def register_schema() -> None:
    """Make the schema known to Hydra under the name that ``configs/train.yaml`` starts from, and the lookups."""
    ConfigStore.instance().store(name="schema", node=TrainConfig)
    register_lookups()


def check_config(cfg: TrainConfig, origin: str) -> TrainConfig:
    """The configuration merged into the schema, which refuses what ``+key=value`` may have smuggled in.

    Raises:
        ConfigError: a key or a type does not fit the schema, or the format is not that of this version.
    """
    try:
        plain = OmegaConf.to_container(typing.cast(DictConfig, cfg))  # a typed one would keep its extra keys
        checked = typing.cast(TrainConfig, OmegaConf.merge(OmegaConf.structured(TrainConfig), plain))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{origin} does not fit the schema: {str(error).splitlines()[0]}") from error
    if checked.format != FORMAT:
        raise ConfigError(
            f"format={checked.format}: this is no choice, new runs are of format {FORMAT}; leave it out"
        )
    return checked


def load_config(path: Path, *, trust: Sequence[str] = ()) -> TrainConfig:
    """Read a saved configuration of which something is to be built.

    trust: packages that it may name besides the components of this framework; see `dml.trust`.

    Raises:
        UntrustedError: it names other code; nothing of it was imported.
        MissingFileError, ConfigError: as in read_config.
    """
    cfg = read_config(path)
    refuse_untrusted(OmegaConf.to_container(typing.cast(DictConfig, cfg)), str(path), trust=trust)
    return cfg


def read_config(path: Path) -> TrainConfig:
    """Read a saved configuration of this or an earlier version, of which nothing is built, and check it.

    Raises:
        MissingFileError: there is no such file.
        UntrustedError: it asks for values of its reader's environment, or repeats parts of itself.
        ConfigError: it is no YAML, a key or a type does not fit the schema, or a newer version wrote it.
    """
    if not path.is_file():
        raise MissingFileError(
            f"no configuration at {path}: a run folder holds config.yaml; give the folder of a run"
        )
    try:
        with user_files(f"reading {path}"):
            content = read_written_out(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no configuration: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no configuration: it holds no keys; give the config.yaml of a run")
    migrated = migrate_config(typing.cast(dict[str, Any], content), str(path), writer=_writer(path))
    cfg = check_config(typing.cast(TrainConfig, OmegaConf.create(migrated)), str(path))
    if missing := OmegaConf.missing_keys(cfg):
        raise ConfigError(f"{path} is not complete: {sorted(missing)[0]} is missing")
    return cfg


def _writer(path: Path) -> str | None:
    """The version of dml that wrote a config.yaml, if what stands beside it says so."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        environment = json.loads(path.with_name("environment.json").read_text(encoding="utf-8"))
        return str(environment["packages"]["dml"])
    return None


def to_plain(cfg: TrainConfig) -> dict[str, Any]:
    """The resolved configuration as plain dicts, lists and values."""
    return typing.cast(dict[str, Any], OmegaConf.to_container(typing.cast(DictConfig, cfg), resolve=True))


def settings(plain: dict[str, Any]) -> dict[str, Any]:
    """What can change a number, by dotted key: everything but the execution, and of places only their own names.

    The folder ``paths.data`` itself has the name "", since every machine calls it otherwise.
    """
    data = plain.get("paths", {}).get("data")
    return {
        key: _name(value, data) if key in PLACES else value
        for key, value in _leaves(plain)
        if not any(key == e or key.startswith(f"{e}.") for e in EXECUTION)
    }


def _name(place: Any, data: Any) -> Any:
    if not isinstance(place, str) or place == MISSING:
        return place
    return "" if data is not None and Path(place) == Path(data) else Path(place).name


def config_differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What can change a number and differs, a line ``key: before -> after`` for each key.

    What is still open (``???``) afterwards differs from nothing.
    """
    old, new = settings(before), settings(after)
    shown_old, shown_new = dict(_leaves(before)), dict(_leaves(after))
    absent = "(absent)"
    return [
        f"{key}: {shown_old.get(key, absent)} -> {shown_new.get(key, absent)}"
        for key in {**old, **new}
        if new.get(key) != MISSING and old.get(key, absent) != new.get(key, absent)
    ]


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_arguments(schema: type, arguments: list[str]) -> Any:
    """Read ``key=value`` arguments of a script into its schema, a dataclass.

    Raises:
        ConfigError: an unknown key, a wrong type, or a required key left out.
    """
    accepted = ", ".join(f"{option.name}=" for option in fields(schema))
    if wrong := [argument for argument in arguments if "=" not in argument]:
        raise ConfigError(f"{wrong[0]!r} is not of the form key=value; accepted keys: {accepted}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_cli(arguments))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{str(error).splitlines()[0]}; accepted keys: {accepted}") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{' '.join(arguments)} has a value that YAML reads as something other than text: put quotes inside of "
            "those of the shell, as in \"images='*.jpg'\""
        ) from error
    if missing := sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(f"{missing[0]}= is required; accepted keys: {accepted}")
    return OmegaConf.to_object(merged)


def late_values(node: DictConfig, **known: Any) -> None:
    """Fill in place those keys of a component that its file leaves open (``???``) and that are known only late."""
    for key in node:
        if OmegaConf.is_missing(node, key) and key in known:
            node[key] = known[str(key)]


def build(node: DictConfig, **late: Any) -> Any:
    """Instantiate the component that a node describes, with the values that are known only late as keywords.

    Raises:
        ConfigError: an argument that the component does not have, one of the wrong type, or one left open.
    """
    name = node._get_full_key(None) or "component"
    if "_target_" not in node:
        raise ConfigError(f"{name} names no component: it needs a _target_")
    target = _locate(name, node["_target_"])
    _check_arguments(name, node, target)
    try:
        return hydra.utils.instantiate(node, _convert_="all", **late)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        raise ConfigError(f"{name}: {error.__cause__ or error}") from error


def _locate(name: str, path: str) -> Any:
    try:
        return hydra.utils.get_object(path)
    except Exception as error:
        raise ConfigError(f"{name}._target_={path} cannot be imported: {error}") from error


def _check_arguments(name: str, node: DictConfig, target: Any) -> None:
    accepted = _parameters(target)
    hints = _type_hints(target)
    for key in map(str, node):
        if key.startswith("_"):
            continue
        if OmegaConf.is_missing(node, key):
            raise ConfigError(f"{name}.{key} is left open (???): give it a value, as in {name}.{key}=VALUE")
        if key not in accepted:
            close = difflib.get_close_matches(key, accepted, 1)
            raise ConfigError(
                f"{name}.{key}: {node['_target_']} has no such argument"
                + (f"; did you mean {close[0]}?" if close else "")
                + f" It takes: {', '.join(sorted(accepted))}"
            )
        _check_type(f"{name}.{key}", node[key], hints.get(key), accepted[key].default)


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    """Named parameters of a callable; for a class that passes keywords on, those of its bases too."""
    functions = (
        [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)]
        if isinstance(target, type)
        else [target]
    )
    found: dict[str, inspect.Parameter] = {}
    for function in functions:
        parameters = inspect.signature(function).parameters.values() if callable(function) else ()
        named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        found = {**named, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    found.pop("self", None)
    return found


def _type_hints(target: Any) -> dict[str, Any]:
    if isinstance(target, type):
        function = vars(target).get("__init__")
    else:
        function = target if inspect.isroutine(target) else type(target).__call__
    try:
        return typing.get_type_hints(function)
    except Exception:  # a library's annotation that cannot be resolved is no reason to refuse its component
        return {}


def _check_type(key: str, value: Any, hint: Any, default: Any) -> None:
    """Refuse a value of the wrong type; the annotation decides, else the type of the default."""
    if hint is None and isinstance(default, (bool, int, float, str)):
        hint = float if type(default) is int else type(default)
    alternatives = typing.get_args(hint) if _is_union(hint) else (hint,)
    accepted = {part for part in alternatives if part in (bool, int, float, str, types.NoneType)}
    sequence = any(typing.get_origin(part) in (tuple, list, Sequence) for part in alternatives)
    if OmegaConf.is_config(value) or not (accepted or sequence):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}={value} is not a finite number; give one")
    if type(value) not in accepted | ({int} if float in accepted else set()):
        names = {types.NoneType: "null"}
        words = sorted(names.get(kind, kind.__name__) for kind in accepted) + ["list"] * sequence
        raise ConfigError(
            f"{key}={value!r} is of type {type(value).__name__}; accepted: {' or '.join(words)}"
        )


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
