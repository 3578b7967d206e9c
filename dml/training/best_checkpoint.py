"""``best.pt``: the weights at the best validation so far, whose figure always is that of the file on the disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dml.distributed import gather_numbers
from dml.errors import FileError
from dml.overrides import resume_command
from dml.retrieval import metric
from dml.run_folder import RunFolder
from dml.training.checkpoint import save_unless_full

__all__ = ["BestCheckpoint"]


class BestCheckpoint:
    """Writes ``best.pt`` where a validation is the best so far, and knows its step and value.

    Args:
        run: where it lies.
        select_by: the metric that says which validation is best.
        val_chooses: False: the newest is kept, whatever the validation says.
    """

    def __init__(self, run: RunFolder, *, select_by: str, val_chooses: bool) -> None:
        self._run, self._select_by, self._val_chooses = run, select_by, val_chooses
        self._unsaved: OSError | None = None  # why the last one was not written
        self.figure = self.none_yet()

    def none_yet(self) -> dict[str, float]:
        """The figure that any other is better than."""
        return {"step": -1, "value": metric(self._select_by).score(-math.inf)}

    def score(self, metrics: Mapping[str, float]) -> float:
        """What a validation is judged by; larger is better."""
        return metric(self._select_by).score(metrics[self._select_by])

    def consider(self, step: int, metrics: Mapping[str, float], weights: Mapping[str, Any]) -> None:
        """Keep the weights of a validation, if they are to be kept and a disk takes them."""
        better = self.score(metrics) > self.score({self._select_by: self.figure["value"]})
        if (better or not self._val_chooses) and self._save(weights) and better:
            self.figure = {"step": step, "value": metrics[self._select_by]}

    def check(self, newest: Callable[[], Mapping[str, Any]]) -> None:
        """Raise FileError if there is none to evaluate, or an older one where the newest is reported.

        newest: gives the weights that are saved now, if they can be, where they are what is reported.
        """
        if self._unsaved is None:
            return
        if not self._val_chooses:
            self._unsaved = save_unless_full(self._run.best, newest())
        if self._unsaved is not None and (not self._val_chooses or not self._run.best.exists()):
            raise FileError(
                f"{self._run.best} could not be saved ({self._unsaved}), so there is no model to evaluate: make room "
                f"on that disk and go on with: {resume_command(self._run)}"
            ) from self._unsaved

    def _save(self, weights: Mapping[str, Any]) -> bool:
        """False if it could not be written: then the next that is better than what is there will be."""
        self._unsaved = save_unless_full(self._run.best, weights)
        return not gather_numbers(self._unsaved is not None).any()
