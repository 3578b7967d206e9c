"""What every contestant is told, and what each measures in the same way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils import clip_grad_norm_


@dataclass(frozen=True)
class Job:
    """What every contestant is told; all values but the counts come from one configuration of dml.

    folder:      holds weights.pt, train/CLASS/ROW.png and test/CLASS/ROW.png.
    overrides:   of the configuration, for dml.
    test_names:  the test classes.
    first:       rows of the training images of the first batch, and their labels.
    rates:       learning rates of backbone and head.
    mean, std:   of the backbone's input, on values 0..255.
    """

    folder: str
    overrides: list[str]
    test_names: list[str]
    first: list[int]
    first_labels: list[int]
    steps: int
    threads: int
    workers: int
    cpu_time: bool
    classes_per_batch: int
    images_per_class: int
    evaluation_batch: int
    size: int
    scale: list[float]
    ratio: list[float]
    flip: float
    mean: list[float]
    std: list[float]
    margins: dict[str, float]
    rates: list[float]
    adamw: dict[str, Any]

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of the wall, or of the processor, which leave out waiting for other programs or the disk."""
        return time.process_time if self.cpu_time else time.perf_counter

    @property
    def batch_size(self) -> int:
        return self.classes_per_batch * self.images_per_class

    def first_files(self) -> list[str]:
        pairs = zip(self.first_labels, self.first, strict=True)
        return [str(image_file(Path(self.folder), "train", label, row)) for label, row in pairs]


@dataclass(frozen=True)
class Measurement:
    """What one process found.

    loss, gradient_norm: of the first batch, before training.
    training, waiting, evaluation, command: seconds; waiting for data is a part of training.
    held, memory:        MiB of resident memory before the first batch, and at the peak.
    """

    loss: float
    gradient_norm: float
    training: float
    waiting: float
    evaluation: float
    recall_at_1: float
    held: float
    memory: float = 0.0
    command: float = 0.0

    @property
    def rise(self) -> float:
        """MiB at the peak beyond libraries, weights and whatever images are kept."""
        return self.memory - self.held


class Waiting:
    """Seconds spent in fetching batches."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds, self._clock = 0.0, clock

    def fetch(self, get: Callable[[], Any]) -> Any:
        start = self._clock()
        try:
            return get()
        finally:
            self.seconds += self._clock() - start

    def each(self, batches: Iterable[Any]) -> Iterator[Any]:
        iterator = iter(batches)
        while (batch := self.fetch(lambda: next(iterator, None))) is not None:
            yield batch


def image_file(folder: Path, half: str, label: int, row: int) -> Path:
    return folder / half / f"{label:04d}" / f"{row:06d}.png"


def take_gradient_norm(*modules: nn.Module) -> float:
    """The norm of the gradient of all parameters, which is then dropped."""
    norm = clip_grad_norm_([p for module in modules for p in module.parameters()], math.inf).item()
    for module in modules:
        module.zero_grad()
    return norm


def resident(field: str) -> float:
    """MiB of this process now (VmRSS) or at its peak (VmHWM); getrusage would count the parent's before the start."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
