"""When a checkpoint is due between validations."""

from __future__ import annotations

import math
import re
import time

from dml.errors import InputError

__all__ = ["SaveTimer"]

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(min|minutes?|steps?)")


class SaveTimer:
    """Says when the last checkpoint is so many minutes or steps old.

    Args:
        every: ``10 min``, ``500 steps``, or None for never.

    Raises:
        InputError: another form, or no time at all.
    """

    def __init__(self, every: str | None) -> None:
        self._seconds = self._steps = math.inf
        if every is not None:
            form = _FORM.fullmatch(every.strip())
            if form is None or not float(form[1]) or (form[2].startswith("step") and "." in form[1]):
                raise InputError(
                    f"trainer.save_every={every}: give minutes or steps above 0, as in trainer.save_every='10 min' or "
                    "trainer.save_every='500 steps'; null saves at validations only"
                )
            if form[2].startswith("step"):
                self._steps = float(form[1])
            else:
                self._seconds = 60 * float(form[1])
        self.saved(0)

    def saved(self, step: int) -> None:
        """Start anew from a checkpoint of this step."""
        self._step, self._time = step, time.monotonic()

    def due(self, step: int) -> bool:
        """Whether the checkpoint is that old, and the run has gone on since."""
        age = time.monotonic() - self._time
        return step > self._step and (step - self._step >= self._steps or age >= self._seconds)
