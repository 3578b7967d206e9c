"""Why a dotted name cannot be imported: which part of it is wrong, and what is called nearly so there."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

__all__ = ["explain_target"]


def explain_target(path: str) -> str | None:
    """A sentence on the first part of ``package.module.Name`` that is not there; None if that is not what is wrong."""
    parts = path.split(".")
    found: object | None = None
    for count, part in enumerate(parts):
        below = getattr(found, part, None) if count else None
        if below is None and (count == 0 or isinstance(found, ModuleType)):
            below = _imported(parts[: count + 1])
            if isinstance(below, str):
                return below
        if below is None:
            return _missing(parts, count, found)
        found = below
    return None


def _imported(parts: list[str]) -> ModuleType | str | None:
    """The module of this name; why it cannot be imported, if it is there; None if it is not."""
    name = ".".join(parts)
    try:
        if find_spec(name) is None:
            return None
        return import_module(name)
    except (ImportError, ValueError) as error:
        return None if isinstance(error, ModuleNotFoundError) and error.name == name else f"{name}: {error}"
    except Exception as error:  # of the code of the module
        return f"{name} fails while it is imported: {error!r}"


def _missing(parts: list[str], count: int, found: object | None) -> str:
    name = parts[count]
    if found is None:
        near = _near(name, (module.name for module in pkgutil.iter_modules()))
        advice = "install it, or name the folder that holds it in the variable PYTHONPATH"
        return f"there is no package {name}: {advice}{near}"
    inside = [key for key in dir(found) if not key.startswith("_")]
    if isinstance(found, ModuleType):
        inside += [module.name for module in pkgutil.iter_modules(getattr(found, "__path__", None) or [])]
    kind = "" if len(parts) - count > 1 else " class or function"
    return (
        f"{'.'.join(parts[:count])} has no{kind} {name}{_near(name, inside, '.'.join(parts[:count]) + '.')}"
    )


def _near(name: str, names: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, set(names), 3)
    return f"; did you mean {' or '.join(prefix + near for near in close)}?" if close else ""
