"""What code a saved configuration may name. It is a stranger's until its user says otherwise.

The command line of a training run is its user's own and may name anything; nothing here is asked about it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from omegaconf import OmegaConf

from dml.errors import InputError

__all__ = [
    "VARIABLE",
    "UntrustedError",
    "is_trusted",
    "read_written_out",
    "refuse_interpolations",
    "refuse_untrusted",
    "trusted_packages",
]

VARIABLE = "DML_TRUST"  # packages that the user trusts everywhere, separated by commas

MODULES = (
    "dml.backbones",
    "dml.data",
    "dml.loggers",
    "dml.losses",
    "dml.pooling",
    "pytorch_metric_learning.distances",
    "pytorch_metric_learning.losses",
    "pytorch_metric_learning.miners",
    "pytorch_metric_learning.reducers",
    "pytorch_metric_learning.regularizers",
    "torch.optim",
    "torch.optim.lr_scheduler",
)
"""Where components live, and nothing that would write, delete or fetch whatever a file says."""

LOOK_UP = re.compile(r"\$\{.*:", re.DOTALL)  # ${oc.env:HOME}, also inside of another

FUNCTIONS = frozenset(
    {
        "dml.retrieval.precision_at_k",
        "dml.training.constant",
        "dml.training.one_cycle",
        "dml.training.plateau",
    }
)
"""Metrics and schedules; what else their packages have takes functions or writes files."""


class UntrustedError(InputError):
    """A file names code that its reader has not allowed, or does not say all by itself."""


def refuse_untrusted(node: Any, origin: str, *, trust: Sequence[str] = ()) -> None:
    """Look through a saved configuration before anything in it is imported, resolved or built.

    Args:
        node: plain dicts, lists and values, interpolations unresolved.
        origin: where it comes from, for the message.
        trust: packages whose public classes and functions it may name, beside the components of this framework.

    Raises:
        UntrustedError: a ``_target_`` that is not allowed.
        InputError: trust, or the variable DML_TRUST, is no list of packages.
    """
    packages = trusted_packages(trust)
    for key, value in _values(node):
        if key.rpartition(".")[2] == "_target_" and value is not None and not is_trusted(value, packages):
            raise UntrustedError(_refusal(f"{origin}: {key}={value!r}", value, packages))


def read_written_out(path: Path) -> Any:
    """The content of a YAML file that says all by itself, as runs save it.

    Raises:
        UntrustedError: a value is to be looked up, or a part to be repeated.
        yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError: it is no YAML, which a tag that would run
            code makes it too.
    """
    text = path.read_text(encoding="utf-8")
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):  # a few lines of these can stand for more than there is memory
            raise UntrustedError(
                f"{path}, line {event.start_mark.line + 1} repeats a part by *{event.anchor}: a run writes all parts "
                "out; take the file that it wrote"
            )
    content = OmegaConf.to_container(OmegaConf.create(text))
    refuse_interpolations(content, str(path))
    return content


def refuse_interpolations(node: Any, origin: str) -> None:
    """Refuse ``${name:...}`` in what was saved: it could carry its reader's environment into figures and files.

    ``${key}``, which repeats another value of the same file, is harmless.

    Raises:
        UntrustedError: there is one; a run resolves them before it saves.
    """
    for key, value in _values(node):
        if LOOK_UP.search(str(value)):
            raise UntrustedError(
                f"{origin}: {key}={value} is to be looked up where it is read, in the environment or elsewhere: a run "
                "saves what it has looked up; write the value itself"
            )


def trusted_packages(trust: Sequence[str]) -> tuple[str, ...]:
    """The packages of a list and of the variable DML_TRUST.

    Raises:
        InputError: it is no list, or a name in it is none of a package.
    """
    if isinstance(trust, str):
        raise InputError(f"trust={trust!r} is a text: give a list of packages, as in trust=[{trust!r}]")
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    packages = (*trust, *filter(None, named))
    for name in packages:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(
                f"trust names {name!r}, which is no package: give names as after import, such as mypackage or "
                f"mypackage.models, in trust=[...] or, separated by commas, in {VARIABLE}"
            )
    return packages


def is_trusted(target: object, packages: Sequence[str] = ()) -> bool:
    """Whether a ``_target_`` is a component, or a public class or function of one of the packages.

    Nothing is imported but modules of the framework's own list and of these packages.
    """
    if not isinstance(target, str):
        return False
    module, _, name = target.rpartition(".")
    if target in FUNCTIONS or (module in MODULES and _is_public(import_module(module), name)):
        return True
    return any(target.startswith(f"{package}.") and _belongs(target, package) for package in packages)


def _is_public(module: ModuleType, name: str) -> bool:
    """Whether a module offers a name as its own, and no module that it has merely imported."""
    value = getattr(module, name, None)
    root = module.__name__.partition(".")[0]
    listed = name in getattr(module, "__all__", ()) or (not name.startswith("_") and _is_from(value, root))
    return listed and callable(value)


def _belongs(target: str, package: str) -> bool:
    """Whether a dotted name leads from module to module of a package, and from there to what is defined in it."""
    parts = target.split(".")
    start = package.count(".") + 1
    found: Any = import_module(package)
    for stop, part in enumerate(parts[start:], start + 1):
        value = getattr(found, part, None)
        if isinstance(found, ModuleType) and (value is None or isinstance(value, ModuleType)):
            try:
                found = import_module(".".join(parts[:stop]))
            except ModuleNotFoundError:
                return False
        elif part in getattr(found, "__all__", ()) or (not part.startswith("_") and _is_from(value, package)):
            found = value
        else:
            return False
    return callable(found)


def _is_from(value: Any, package: str) -> bool:
    """Whether a class or function, or the class of any other value, is defined in a package."""
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and f"{module}.".startswith(f"{package}.")


def _values(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside of dicts and lists with its dotted key; of a ``_target_`` also what is no plain value."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        dotted = f"{prefix}.{key}" if prefix else str(key)
        if key == "_target_" or not isinstance(value, (dict, list)):
            yield dotted, value
        else:
            yield from _values(value, dotted)


def _refusal(place: str, target: object, packages: Sequence[str]) -> str:
    accepted = "a component of dml, pytorch_metric_learning or torch.optim"
    if packages:
        accepted += f", nor a public class or function of {', '.join(packages)}"
    top = str(target).partition(".")[0]
    if not isinstance(target, str) or top in sys.stdlib_module_names or not top.isidentifier():
        advice = "no model needs it, so do not use this folder unless you know why it is there"
    else:
        advice = (
            f"if you know the package {top} and trust it with any argument, allow it by trust=[{top}] or --trust {top} "
            f"or by the variable {VARIABLE}={top}"
        )
    return f"{place} is not {accepted}. It was chosen by whoever wrote the file, and nothing was imported: {advice}"
