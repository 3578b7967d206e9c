"""Notice when steps take many times what they could: torch's threads wait for each other on cores that others use."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping

from dml.contracts import Logger
from dml.model import EmbeddingModel

__all__ = ["SlowStepLogger"]

FIRST = 3  # steps that are not looked at: a library loads what it needs
WINDOW, SLOW = 20, 5  # recent steps, and how many of them must be slow
TIMES = 5.0  # what the quick ones take


class SlowStepLogger(Logger):
    """Warns once in a run if, of the recent steps, several took many times what the quickest quarter takes.

    Validations are no part of a step.

    Args:
        threads: of torch on the CPU, at which this run is.
        clock: seconds, from any start.
    """

    def __init__(self, *, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads, self._clock = threads, clock
        self._seen, self._warned = 0, False
        self._durations: deque[float] = deque(maxlen=WINDOW)
        self._before: float | None = None

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        now, self._seen = self._clock(), self._seen + 1
        if self._before is not None and self._seen > FIRST:
            self._durations.append(now - self._before)
        self._before = now
        if not self._warned and len(self._durations) == WINDOW:
            self._compare(step)

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        self._before = None

    def _compare(self, step: int) -> None:
        quick = statistics.quantiles(self._durations, n=4)[0]
        slow = [duration for duration in self._durations if duration > TIMES * quick]
        if len(slow) < SLOW:
            return
        self._warned = True
        warnings.warn(
            f"step {step}: {len(slow)} of the last {WINDOW} steps took {statistics.median(slow):.2g} s, where the "
            f"quick ones take {quick:.2g} s. Where other programs use these cores, torch's {self._threads} threads "
            f"wait for each other: go on with fewer, by OMP_NUM_THREADS={max(1, self._threads // 2)} before the "
            "command and resume=FOLDER",
            stacklevel=2,
        )
