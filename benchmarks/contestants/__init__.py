"""One training epoch and the evaluation after it, by dml and by its peers, a file each.

Both peers are put together as their documentation shows, and read PNG files by PIL and torchvision. "by hand" adds what
it does not ask for and dml does by itself: batches of bytes, normalised inside the model, and convolutions in
channels_last.

Only torch is imported at the top of these files, since the three live in different environments.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from contestants.job import Job, Measurement
from contestants.oml import run_oml
from contestants.ours import run_dml
from contestants.pml import run_pml

__all__ = ["RUNS", "Job", "Measurement"]

RUNS: dict[str, Callable[[Job], Measurement]] = {
    "dml": partial(run_dml, files=False),
    "dml, PNG files": partial(run_dml, files=True),
    "pytorch-metric-learning": partial(run_pml, by_hand=False),
    "pytorch-metric-learning, by hand": partial(run_pml, by_hand=True),
    "open-metric-learning": partial(run_oml, by_hand=False),
    "open-metric-learning, by hand": partial(run_oml, by_hand=True),
}
