"""What Hydra and OmegaConf refuse, in one sentence: the key or the choice, near names, and what is accepted there."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection, Iterable
from dataclasses import is_dataclass
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from dml.config.components import alternatives
from dml.installation import CONFIGS

__all__ = ["groups", "refusal"]

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    types.NoneType: "null",
}
INTERNAL = ("hydra", "format")
"""Keys that nobody looks for when another one is misspelt."""


def refusal(error: HydraException | OmegaConfBaseException) -> str:
    """What is wrong with what was typed or read, and what is accepted there; nothing that would be refused as well."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_choice(error.missing_cfg_file, error.options or ())
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and OmegaConf.is_dict(cause.parent_node):
        return _no_key(cause)
    if isinstance(cause, ValidationError) and cause.full_key and (accepted := _accepted(cause)):
        value = "" if cause.value in (None, {}) else f"={cause.value}"
        return f"{cause.full_key}{value} is of the wrong type; accepted: {accepted}"
    said = error if cause is None or cause is error else f"{error}: {str(cause).splitlines()[0]}"
    return " ".join(str(said).split())


def _no_choice(file: str, options: Iterable[str]) -> str:
    group, _, name = file.partition("/")
    folder = name.rpartition("/")[0]
    names = sorted(f"{folder}/{option}" if folder else option for option in options) or _choices(group)
    return f"{group}={name} does not exist{_near(name, names)}ccepted: {', '.join(names) or 'nothing'}"


def _choices(group: str) -> list[str]:
    """The choices of a group, those in folders too."""
    folder = CONFIGS / group
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


def _no_key(error: OmegaConfBaseException) -> str:
    node, key = error.parent_node, str(error.key)
    place = node._get_full_key(None)
    names = [name for name in map(str, node) if not name.startswith("_")]
    if not place:
        names = sorted({*names, *groups()}.difference(INTERNAL))
    dotted = f"{place}." if place else ""
    said = (
        f"{dotted}{key}: there is no such key{_near(key, names, dotted)}ccepted: {', '.join(names) or 'none'}"
    )
    if "_target_" in node:
        said += f"; what else {node['_target_']} takes is added by +{place}.NAME=VALUE"
    return said


def _near(name: str, names: Collection[str], prefix: str = "") -> str:
    """The question for near names, and how the sentence goes on up to the first letter of *accepted*."""
    close = [prefix + near for near in difflib.get_close_matches(name, names, 3)]
    return f"; did you mean {' or '.join(close)}? A" if close else "; a"


def groups() -> set[str]:
    """The groups that ``dml train`` chooses from."""
    defaults: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "train.yaml").defaults, resolve=False)
    named = {str(key).rpartition(" ")[2] for entry in defaults if isinstance(entry, dict) for key in entry}
    return {name for name in named if name.isidentifier()}


def _accepted(error: OmegaConfBaseException) -> str:
    """What the field takes that a value was refused for; empty if nothing is known of it."""
    node, key = error.parent_node, error.key
    if OmegaConf.is_list(node):
        node, key = node._get_parent(), node._key()
    kind = OmegaConf.get_type(node) if OmegaConf.is_config(node) else None
    hint = typing.get_type_hints(kind).get(str(key)) if is_dataclass(kind) else None
    if is_dataclass(hint):
        return f"no value of its own, but one for {', '.join(f'{key}.{name}' for name in typing.get_type_hints(hint))}"
    return " or ".join(filter(None, map(_word, alternatives(hint))))


def _word(kind: Any) -> str:
    if typing.get_origin(kind) is list:
        (inner,) = typing.get_args(kind)
        return f"a list in [ ], each of it {WORDS[inner]}"
    return WORDS.get(kind, "")
