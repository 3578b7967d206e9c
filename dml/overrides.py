"""Texts on the command line arrive as they are typed, and commands that are printed can be run.

Hydra reads every value: 2024_11_05 is a number to it, ``true`` a truth, ``photos (2024)`` an error. Which keys take a
text, and nothing else, is known from the types in the schema, in Hydra's own, and of the arguments of components; the
values of those keys are quoted before Hydra sees them.
"""

from __future__ import annotations

import os
import re
import shlex
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dml.config import TrainConfig, alternatives, argument_types
from dml.errors import ConfigError
from dml.installation import CONFIGS

__all__ = ["MULTIRUN", "argument", "as_typed", "beside_resume", "resume_command", "train_command"]

ELEMENT = re.compile(r"""\s*(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")\s*(?=,|$)|[^,]+""", re.DOTALL)
MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
"""What asks for all combinations of lists."""


def as_typed(arguments: Sequence[str]) -> list[str]:
    """Arguments of ``dml train`` in which the values of text keys are quoted where Hydra would read something else.

    A value in quotes of its own is Hydra's, ``null`` is none where none is accepted, ``[a,b]`` is a list where one is
    accepted, and in a multirun commas part the values of a sweep; ``${key}`` is looked up in quotes too. ``~`` at the
    start is the home folder.

    Raises:
        ConfigError: Hydra cannot read a value, and nothing says that its key takes a text.
    """
    multirun = not MULTIRUN.isdisjoint(arguments)
    return [typed if typed.startswith("-") else _as_typed(typed, multirun=multirun) for typed in arguments]


def beside_resume(words: Sequence[str]) -> list[str]:
    """Arguments of ``dml train`` with which Hydra composes what is typed beside ``resume=FOLDER``.

    Hydra knows the parts of this command, not those of the run: a value for a part that no schema describes, as
    ``dataset.cache=true``, is told to it as one that may be new. What the part takes is checked when it is built.
    """
    resumed = [word.partition("=")[2] for word in words if word.startswith("resume=")]
    if not resumed or resumed[-1].lower() in ("", "null", "auto"):
        return list(words)
    return [f"++{word}" if _is_free(word.partition("=")) else word for word in words]


def _is_free(word: tuple[str, str, str]) -> bool:
    """Whether a value is for a key within a part that no schema describes."""
    key, equals, _ = word
    first, *below = key.split(".")
    hint: Any = typing.get_type_hints(TrainConfig).get(first)
    while below and is_dataclass(hint):
        hint = typing.get_type_hints(hint).get(below.pop(0))
    return bool(equals and below) and hint is Any


def argument(key: str, text: str | os.PathLike[str]) -> str:
    """``key=text`` as ``dml train`` has to be told it, so that the key has this very text."""
    text = os.fspath(text)
    with suppress(ConfigError):
        (typed,) = as_typed([f"{key}={text}"])
        if _is_plain(typed, text):
            return f"{key}={text}"
    return _override(key, text)


def train_command(*arguments: str) -> str:
    """What trains with these arguments when it is pasted into a shell."""
    return shlex.join(["dml", "train", *arguments])


def resume_command(folder: str | os.PathLike[str]) -> str:
    """What goes on with the run in a folder when it is pasted into a shell."""
    return train_command(argument("resume", folder))


def _override(key: str, text: str) -> str:
    """``key=text`` as Hydra has to be told it."""
    plain = f"{key}={text}"
    return plain if _is_plain(plain, text) else f"{key}={_quoted(text)}"


def _as_typed(typed: str, *, multirun: bool) -> str:
    key, equals, value = typed.partition("=")
    if not (equals and value) or key.startswith("~") or "@" in key or _is_plain(typed, value):
        return typed
    read, text = _parse(typed), _text_key(key.lstrip("+"))
    if text is None:
        if read is None and _parse(f"{key}=x") is not None:
            quoted = shlex.quote(_override(key, value))
            raise ConfigError(
                f"{typed}: Hydra cannot read this value, since ( ) [ ] {{ }} , : = # ~ and quotes mean something to "
                f"it. If it is a text, put it in quotes inside of those of the shell: {quoted}"
            )
        return typed
    multirun = multirun and not key.startswith("hydra.")  # over which Hydra cannot sweep
    if multirun and read is not None and read.is_sweep_override() and re.fullmatch(r"\w+\(.*", value):
        return typed  # choice(...), glob(...) and the like
    if text.lists and value[0] == "[" and value[-1] == "]":
        return f"{key}=[{_each(value[1:-1], text)}]"
    return f"{key}={_each(value, text) if multirun else _text(value, text)}"


class _Text(NamedTuple):
    """What a text key takes besides: nothing (null), a list."""

    none: bool
    lists: bool


def _each(values: str, text: _Text) -> str:
    """The texts between commas, each by itself; commas in quotes part nothing."""
    return ",".join(_text(value.strip(), text) for value in ELEMENT.findall(values))


def _text(value: str, text: _Text) -> str:
    parsed = _parse(f"key={value}")
    held = None if parsed is None else parsed._value
    is_none = text.none and value.lower() == "null"
    if not value or is_none or isinstance(held, QuotedString) or held == value:
        return value
    return _quoted(os.path.expanduser(value), interpolate=True)


def _quoted(text: str, *, interpolate: bool = False) -> str:
    if not interpolate:
        text = text.replace("${", r"\${")
    return QuotedString(text, Quote.double).with_quotes()


def _is_plain(typed: str, text: str) -> bool:
    """Whether Hydra, and after it OmegaConf, takes the value of what was typed as this text."""
    read = _parse(typed)
    if read is None or read.is_sweep_override():
        return False
    value = read.value()
    return isinstance(value, str) and value == text.replace("${", r"\${")


def _parse(typed: str) -> Override | None:
    try:
        return OverridesParser.create().parse_overrides([typed])[0]
    except HydraException:
        return None


def _text_key(key: str) -> _Text | None:
    """What a key takes that takes texts and no numbers or truths; None for any other key."""
    kinds = set().union(*map(alternatives, _hints(key)))
    lists = {hint for hint in kinds if typing.get_args(hint) == (str,)}
    texts = kinds & {str, Path} | lists
    if not texts or kinds - texts - {types.NoneType}:
        return None
    return _Text(types.NoneType in kinds, bool(lists))


def _hints(key: str) -> Iterator[Any]:
    """The type of a dotted key in the schemata, or in each component of its group that has such an argument."""
    hint: Any = HydraConf if key.startswith("hydra.") else TrainConfig
    for name in key.removeprefix("hydra.").split("."):
        hints = typing.get_type_hints(hint) if is_dataclass(hint) else {}
        if name not in hints:
            break
        hint = hints[name]
    else:
        yield hint
        return
    group, _, argument = key.partition(".")
    for target in _components(group) if argument in _named() else ():
        hints = argument_types(target)
        if argument in hints:
            yield hints[argument]


@cache
def _named() -> frozenset[str]:
    """The keys that any configuration names; for others, misspelt ones in particular, no component is imported."""
    texts = [file.read_text(encoding="utf-8") for file in CONFIGS.rglob("*.yaml")]
    return frozenset(name for text in texts for name in re.findall(r"(\w+):", text))


@cache
def _components(group: str) -> tuple[Any, ...]:
    """What the files of a group build."""
    files = sorted((CONFIGS / group).rglob("*.yaml")) if group.isidentifier() else []
    nodes = [OmegaConf.to_container(OmegaConf.load(file)) or {} for file in files]
    targets = {node.get(group, node).get("_target_") for node in nodes if isinstance(node, dict)}
    return tuple(hydra.utils.get_object(target) for target in sorted(targets - {None}))
