"""Where the course of every run is written: history.csv, steps.csv, the terminal; and how all loggers are told."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dml.contracts import Logger
from dml.errors import UserError, raised_in_dml
from dml.model import EmbeddingModel

__all__ = [
    "HistoryLogger",
    "Logger",
    "ProgressLogger",
    "StepLogger",
    "close_or_warn",
    "open_or_warn",
    "read_steps",
    "tell",
    "warn_of_lost",
]

ROW = re.compile(r"(\d+),([^,]+),([^,]+)")  # of the file of StepLogger
_failing: WeakKeyDictionary[Logger, set[str]] = WeakKeyDictionary()  # the events that it could not log


def tell(loggers: Sequence[Logger], event: str, *values: Any) -> None:
    """Log an event, its step first, with all loggers; one that fails costs its log, not the run.

    That it fails is said once, whatever it is told, and once more if all of it has worked in between.
    """
    for logger in loggers:
        failing = _failing.setdefault(logger, set())
        try:
            getattr(logger, event)(*values)
            failing.discard(event)
        except Exception as error:
            if not failing:
                _warn_of_failure(f"the log of step {values[0]}", type(logger).__name__, error)
            failing.add(event)


def open_or_warn(name: str, make: Callable[[], Logger]) -> list[Logger]:
    """The logger, or none if it cannot be had, with a warning."""
    try:
        return [make()]
    except Exception as error:
        _warn_of_failure(name, name, error)
        return []


def close_or_warn(logger: Logger) -> None:
    """Close a logger; what could not be written then is named in a warning, unless it fails anyway."""
    name = type(logger).__name__
    try:
        logger.close()
    except Exception as error:
        if not _failing.get(logger):
            _warn_of_failure(f"the end of {name}", name, error)


def _warn_of_failure(what: str, who: str, error: Exception) -> None:
    cause = _cause(error)
    if isinstance(cause, UserError):
        warnings.warn(f"{cause}; the run goes on without {what}", stacklevel=3)
    elif isinstance(cause, OSError) and not isinstance(cause, ConnectionError | TimeoutError):
        warn_of_lost(what, cause)
    else:
        report = "; please report this" if raised_in_dml(cause) else ""
        warnings.warn(f"{who} failed ({cause!r}), and the run goes on without {what}{report}", stacklevel=3)


def _cause(error: BaseException) -> BaseException:
    """What went wrong at first, and not what was made of it while a component was built."""
    return error if error.__cause__ is None else _cause(error.__cause__)


def warn_of_lost(what: str, error: OSError) -> None:
    warnings.warn(
        f"{what} could not be written ({error}); what was there before stays, and the run goes on: "
        "make room on that disk",
        stacklevel=3,
    )


class HistoryLogger(Logger):
    """One row per evaluation: the step, the last training scalars before it, the validation metrics.

    Rows after ``start`` are dropped, so that a resumed run continues the file where its checkpoint stands.
    """

    def __init__(self, path: Path, *, start: int) -> None:
        self._path = path
        self._rows = [row for row in self._read() if int(row["step"]) <= start]
        self._scalars: dict[str, float] = {}

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._scalars = dict(scalars)

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        validation = {f"val/{name}": value for name, value in metrics.items()}
        row = {"step": step, **validation, **self._scalars}
        self._rows = [earlier for earlier in self._rows if int(earlier["step"]) < step]
        self._rows.append({name: repr(value) for name, value in row.items()})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        partial = self._path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self._path)

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class StepLogger(Logger):
    """One row for every step: total loss and gradient norm, with all digits, so that two runs can be compared.

    Rows after ``start`` are dropped, as is a last row that was cut off.
    """

    COLUMNS = "step,loss,gradient_norm"

    def __init__(self, path: Path, *, start: int) -> None:
        kept = [
            f"{step},{loss!r},{norm!r}" for step, (loss, norm) in read_steps(path).items() if step <= start
        ]
        partial = path.with_suffix(".partial")
        partial.write_text("\n".join([self.COLUMNS, *kept, ""]), encoding="utf-8")
        partial.replace(path)
        self._file = path.open("a", buffering=1, encoding="utf-8")  # by lines: a killed run leaves whole rows

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        self._file.write(f"{step},{loss!r},{gradient_norm!r}\n")

    def close(self) -> None:
        self._file.close()


def read_steps(path: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of each step in a file of `StepLogger`; empty if there is no such file.

    Rows that a full disk cut off are left out.
    """
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]  # what follows the last line end was cut off
    rows = filter(None, map(ROW.fullmatch, lines))
    return {int(row[1]): (float(row[2]), float(row[3])) for row in rows}


class ProgressLogger(Logger):
    """A bar with the time left, and a line at each evaluation."""

    def __init__(self, console: Console, *, start: int, stop: int) -> None:
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self._bar = Progress(*columns, TextColumn("{task.fields[loss]}"), console=console)
        self._task = self._bar.add_task("", total=stop, completed=start, loss="")
        self._bar.start()

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        self._bar.update(self._task, completed=step, loss=f"loss {loss:.4f}")

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        shown = [name for name in metrics if "@" in name and "/" not in name]  # of the set, not of its levels
        figures = "   ".join(f"{name} {metrics[name]:6.2%}" for name in (shown[0], shown[-1]))
        self._bar.console.print(f"step {step:>5}   validation   {figures}")

    def close(self) -> None:
        self._bar.stop()
