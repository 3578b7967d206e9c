"""Where the course of a run is written: history.csv, steps.csv, TensorBoard, the terminal."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from dml.model import EmbeddingModel
from dml.modes import evaluation_mode
from dml.training.pooling_statistics import prototype_use
from dml.weight_maps import NoGridError, NoWeightsError, drawn_maps, weight_maps

__all__ = [
    "HistoryLogger",
    "Logger",
    "ProgressLogger",
    "StepLogger",
    "TensorBoardLogger",
    "close_or_warn",
    "open_or_warn",
    "read_steps",
    "tell",
    "warn_of_lost",
]

STRONGEST = 3  # prototypes that are drawn of each image
SIDE = 128  # pixels of each image in a picture
ROW = re.compile(r"(\d+),([^,]+),([^,]+)")  # of the file of StepLogger
_failing: WeakKeyDictionary[Logger, set[str]] = WeakKeyDictionary()  # the events that it could not log


class Logger:
    """Is told what happens in a run; what it does not say what to do about, it passes over."""

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        """Every step: the total loss and the norm of the gradient before clipping."""

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        """Losses by term, learning rates, gradient norms, statistics of the pooling."""

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        """Metrics of the validation classes, and the model that they are of, to be looked at and left as it is."""

    def close(self) -> None:
        """The run is over, or leaves here."""


def tell(loggers: Sequence[Logger], event: str, *values: Any) -> None:
    """Log an event, its step first, with all loggers; one that fails costs its log, not the run.

    That it fails is said once, and once more if it has worked in between.
    """
    for logger in loggers:
        failing = _failing.setdefault(logger, set())
        try:
            getattr(logger, event)(*values)
            failing.discard(event)
        except Exception as error:
            if event not in failing:
                failing.add(event)
                _warn_of_failure(f"the log of step {values[0]}", type(logger).__name__, error)


def open_or_warn(name: str, make: Callable[[], Logger]) -> list[Logger]:
    """The logger, or none if it cannot be had, with a warning."""
    try:
        return [make()]
    except Exception as error:
        _warn_of_failure(name, name, error)
        return []


def close_or_warn(logger: Logger) -> None:
    """Close a logger; what could not be written then is named in a warning."""
    name = type(logger).__name__
    try:
        logger.close()
    except Exception as error:
        _warn_of_failure(f"the end of {name}", name, error)


def _warn_of_failure(what: str, who: str, error: Exception) -> None:
    if isinstance(error, OSError):
        warn_of_lost(what, error)
    else:
        warnings.warn(
            f"{who} failed ({error!r}), and the run goes on without {what}: please report this", stacklevel=3
        )


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


class TensorBoardLogger(Logger):
    """Event files in a folder; a resumed run writes over the steps after ``start``.

    Args:
        images: (B, 3, H, W) uint8, over which it is drawn what the pooling looks at, at each validation; None for
            nothing. Colours are full at nothing and at twice the uniform weight; ``attention/departure/*`` is the
            largest departure from it.
    """

    def __init__(self, folder: Path, *, start: int, images: Tensor | None = None) -> None:
        self._images = images
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder, purge_step=start + 1 if start else None)

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._write(step, "", scalars)

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        self._write(step, "val/", metrics)
        if self._images is None:
            return
        self._write_prototype_use(step, model, self._images)
        try:
            maps = weight_maps(model, self._images, strongest=STRONGEST)
        except (NoWeightsError, NoGridError):  # most poolings are not there to be looked at
            return
        picture = drawn_maps(maps, side=SIDE)
        self._writer.add_image("attention", picture.pixels, step)
        self._write(step, "attention/departure/", picture.departures)

    def close(self) -> None:
        self._writer.close()

    def _write_prototype_use(self, step: int, model: EmbeddingModel, images: Tensor) -> None:
        """A bar for each prototype, by its number: its share of the attributes of the images."""
        with torch.no_grad(), evaluation_mode(model):
            attributes = model(images.to(model.projection.weight.device)).attributes
        if attributes is None:
            return
        use = prototype_use(attributes).cpu()
        count = len(use)
        self._writer.add_histogram_raw(
            "prototypes/use",
            min=0,
            max=count,
            num=count,
            sum=1.0,
            sum_squares=use.square().sum().item(),
            bucket_limits=list(range(1, count + 1)),
            bucket_counts=use.tolist(),
            global_step=step,
        )

    def _write(self, step: int, prefix: str, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(prefix + name.replace("@", "_at_"), value, step)


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
