"""The figure that the literature reports: the best one that the test classes ever showed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dml.distributed import is_main

__all__ = ["BestOnTest", "load_best_on_test"]

FILE = "best_on_test.json"


class BestOnTest:
    """Keeps the test metrics of the validation where they were best, and nothing chooses by them.

    They are kept in the run folder: a resumed run repeats validations that it had done, which changes no maximum.

    Args:
        folder: the run folder.
        select_by: the metric, larger is better, that says which validation was best.
    """

    def __init__(self, folder: Path, *, select_by: str) -> None:
        self._folder, self._select_by = folder, select_by

    def update(self, metrics: Mapping[str, float]) -> None:
        """Compare the test metrics of one more validation; the main process keeps them."""
        if not is_main():
            return
        best = load_best_on_test(self._folder).get("best_on_test")
        if best is not None and best[self._select_by] >= metrics[self._select_by]:
            return
        partial = self._folder / f"{FILE}.partial"
        partial.write_text(json.dumps(dict(metrics), indent=2) + "\n", encoding="utf-8")
        partial.replace(self._folder / FILE)


def load_best_on_test(folder: Path) -> dict[str, dict[str, float]]:
    """``{"best_on_test": metrics}`` of a run that followed the test classes, else nothing."""
    path = folder / FILE
    return {"best_on_test": json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
