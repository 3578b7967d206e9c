"""Where the course of a run is written: history.csv, TensorBoard, the terminal."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

__all__ = ["HistoryLogger", "Logger", "ProgressLogger", "TensorBoardLogger"]


class Logger(Protocol):
    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        """Losses by term, learning rates, gradient norms, statistics of the pooling."""

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of the validation classes."""

    def close(self) -> None: ...


class HistoryLogger:
    """One row per evaluation: the step, the last training scalars before it, the validation metrics.

    Rows after ``start`` are dropped, so that a resumed run continues the file where its checkpoint stands.
    """

    def __init__(self, path: Path, *, start: int) -> None:
        self._path = path
        self._rows = [row for row in self._read() if int(row["step"]) <= start]
        self._scalars: dict[str, float] = {}

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._scalars = dict(scalars)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        validation = {f"val/{name}": value for name, value in metrics.items()}
        row = {"step": step, **validation, **self._scalars}
        self._rows.append({name: repr(value) for name, value in row.items()})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)

    def close(self) -> None:
        pass

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class TensorBoardLogger:
    """Event files in a folder; a resumed run writes over the steps after ``start``."""

    def __init__(self, folder: Path, *, start: int) -> None:
        self._writer = SummaryWriter(folder, purge_step=start + 1 if start else None)

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._write(step, "", scalars)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self._write(step, "val/", metrics)

    def close(self) -> None:
        self._writer.close()

    def _write(self, step: int, prefix: str, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(prefix + name.replace("@", "_at_"), value, step)


class ProgressLogger:
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

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._bar.update(self._task, completed=step, loss=f"loss {scalars['loss/total']:.4f}")

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        shown = [name for name in metrics if "@" in name]
        figures = "   ".join(f"{name} {metrics[name]:6.2%}" for name in (shown[0], shown[-1]))
        self._bar.console.print(f"step {step:>5}   validation   {figures}")

    def close(self) -> None:
        self._bar.stop()
