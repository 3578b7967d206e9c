"""The one way from a node of the configuration to an object, with what its constructor takes checked by name and type.

The check of types is written here, since what others offer would be longer: OmegaConf converts (3 becomes "3") and
knows no tensors or modules; pydantic refuses a list for a tuple when it is strict and converts when it is not, and
neither reads a type from a default, which is all that pytorch-metric-learning gives.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import math
import types
import typing
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf, flag_override

from dml.config.targets import explain_target
from dml.errors import ConfigError, UserError

__all__ = ["alternatives", "argument_types", "build", "check_component", "locate"]


def build(node: DictConfig, **late: Any) -> Any:
    """Instantiate the component that a node describes, with the values that are known only late as keywords.

    Raises:
        ConfigError: an argument that the component does not have, one of the wrong type, or one left open.
    """
    name = check_component(node)
    arguments = copy.deepcopy(node)
    with flag_override(arguments, ["readonly", "struct"], False):
        arguments.pop("_takes_", None)  # what a loss says of itself is no argument
    try:
        if not late:
            return hydra.utils.instantiate(arguments, _convert_="all")
        # by a call of our own: Hydra would take what is within these values for components, too
        make = hydra.utils.instantiate(arguments, _convert_="all", _partial_=True)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        raise ConfigError(f"{name}: {error.__cause__ or error}") from error
    try:
        return make(**late)
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{name}: {error}") from error


def check_component(node: DictConfig, *, may_be_open: bool = False) -> str:
    """The dotted key of a node that describes a component.

    Raises:
        ConfigError: an argument that the component does not have, one of the wrong type, or one left open, unless that
            `may_be_open`.
    """
    name = _name(node)
    _check_arguments(name, node, locate(node), may_be_open=may_be_open)
    return name


def _name(node: DictConfig) -> str:
    return node._get_full_key(None) or "component"


def locate(node: DictConfig) -> Any:
    """The class or function that a node names, not called.

    Raises:
        ConfigError: it names none, or one that cannot be imported; with near names, if it is misspelt.
    """
    name = _name(node)
    if "_target_" not in node:
        raise ConfigError(f"{name} names no component: it needs a _target_")
    path = node["_target_"]
    try:
        found = hydra.utils.get_object(path)
    except Exception as error:
        why = explain_target(path) if isinstance(path, str) else None
        raise ConfigError(f"{name}._target_={path} cannot be imported: {why or error}") from error
    if not callable(found):
        raise ConfigError(
            f"{name}._target_={path} is {found!r}: give a class, or a function that makes the part"
        )
    return found


def _check_arguments(name: str, node: DictConfig, target: Any, *, may_be_open: bool) -> None:
    accepted = _parameters(target)
    hints = argument_types(target)
    for key in map(str, node):
        is_open = OmegaConf.is_missing(node, key)
        if key.startswith("_") or (is_open and may_be_open):
            continue
        if is_open:
            raise ConfigError(f"{name}.{key} is left open (???): give it a value, as in {name}.{key}=VALUE")
        if key not in accepted:
            close = difflib.get_close_matches(key, accepted, 1)
            raise ConfigError(
                f"{name}.{key}: {node['_target_']} has no such argument"
                + (f"; did you mean {close[0]}?" if close else "")
                + f" It takes: {', '.join(sorted(accepted))}"
            )
        _check_type(f"{name}.{key}", node[key], hints.get(key), accepted[key].default)


def _constructors(target: Any) -> list[Any]:
    """What is called with the arguments of a component; for a class that passes keywords on, its bases' too."""
    if not isinstance(target, type):
        return [target]
    own = [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)]
    last = next((i for i, function in enumerate(own) if not _passes_keywords_on(function)), len(own))
    return own[: last + 1]


def _passes_keywords_on(function: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    """The named parameters of a component."""
    found: dict[str, inspect.Parameter] = {}
    for function in _constructors(target):
        parameters = inspect.signature(function).parameters.values() if callable(function) else ()
        named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        found = {**named, **found}
    found.pop("self", None)
    return found


def argument_types(target: Any) -> dict[str, Any]:
    """The annotations of the arguments of a component; without those that cannot be resolved."""
    found: dict[str, Any] = {}
    for function in _constructors(target):
        annotated = function if inspect.isroutine(function) else type(function).__call__
        with suppress(Exception):  # a library's annotation that cannot be resolved refuses no component
            found = {**typing.get_type_hints(annotated), **found}
    return found


def _check_type(key: str, value: Any, hint: Any, default: Any) -> None:
    """Refuse a value of the wrong type; the annotation decides, else the type of the default."""
    if hint is None and isinstance(default, (bool, int, float, str)):
        hint = float if type(default) is int else type(default)
    kinds = alternatives(hint)
    accepted = {part for part in kinds if part in (bool, int, float, str, types.NoneType)}
    sequence = any(typing.get_origin(part) in (tuple, list, Sequence) for part in kinds)
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


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type that another annotation is."""
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if is_union else (hint,)
