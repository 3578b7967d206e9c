"""The figure that the literature reports: the best one that the test classes ever showed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dml.distributed import is_main
from dml.retrieval import metric
from dml.run_folder import RunFolder
from dml.training.loggers import warn_of_lost

__all__ = ["BestOnTest", "load_best_on_test"]


class BestOnTest:
    """Keeps the test metrics of the validation where they were best, and nothing chooses by them.

    They are kept in the run folder: a resumed run repeats validations that it had done, which changes no maximum.

    Args:
        run: where they are kept.
        select_by: the metric that says which validation was best.
    """

    def __init__(self, run: RunFolder, *, select_by: str) -> None:
        self._run, self._select_by = run, select_by

    def update(self, metrics: Mapping[str, float]) -> None:
        """Compare the test metrics of one more validation; the main process keeps them."""
        if not is_main():
            return
        best = load_best_on_test(self._run).get("best_on_test")
        score = metric(self._select_by).score
        if best is not None and score(best[self._select_by]) >= score(metrics[self._select_by]):
            return
        path = self._run.best_on_test
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(dict(metrics), indent=2) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            warn_of_lost(path.name, error)


def load_best_on_test(run: RunFolder) -> dict[str, dict[str, float]]:
    """``{"best_on_test": metrics}`` of a run that followed the test classes, else nothing."""
    path = run.best_on_test
    return {"best_on_test": json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
