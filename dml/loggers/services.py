"""What loggers that hand figures to a service have in common."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from dml.errors import UnavailableError

__all__ = ["HandedOver", "require"]


def require(module: str, title: str) -> None:
    """Raise UnavailableError if a package is not installed."""
    if find_spec(module) is None:
        raise UnavailableError(
            f"{title} is not installed, and history.csv has the figures: pip install {module}, or leave {module} out "
            "of logger="
        )


class HandedOver:
    """Which steps a service has, by event, and what it calls the run: a file in the run folder.

    A service takes nothing back. A run that goes on from a checkpoint repeats, to the last bit, the steps that it had
    done after it; those are not handed over again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, str | int] = {}
        if path.exists():
            self._kept = json.loads(path.read_text(encoding="utf-8"))

    @property
    def name(self) -> str | None:
        """What the service calls the run; None if it does not know it yet."""
        name = self._kept.get("name")
        return None if name is None else str(name)

    def begin(self, name: str) -> None:
        """The service knows the run by this name."""
        self._keep("name", name)

    def is_new(self, event: str, step: int) -> bool:
        """Whether a step is later than what the service has of this kind of event."""
        return step > int(self._kept.get(event, -1))

    def done(self, event: str, step: int) -> None:
        """The service has this step now."""
        self._keep(event, step)

    def _keep(self, key: str, value: str | int) -> None:
        self._kept[key] = value
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._kept), encoding="utf-8")
        partial.replace(self._path)
