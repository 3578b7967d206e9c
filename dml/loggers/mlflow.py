"""MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from dml.contracts import FollowedRun, Logger
from dml.loggers.services import HandedOver, require
from dml.model import EmbeddingModel

__all__ = ["MLflowLogger"]

AT_ONCE = 100  # parameters that MLflow takes in one call
LONGEST = 500  # characters of a value that every version and store of MLflow takes


class MLflowLogger(Logger):
    """A run of MLflow with the configuration as parameters and all scalars, ``@`` written as ``_at_``.

    It is kept where MLFLOW_TRACKING_URI says, else in files in ``mlruns/`` of the run folder. A resumed run goes on in
    the same one.

    Args:
        run: what is followed.
        experiment: that it belongs to; made if there is none.

    Raises:
        UnavailableError: mlflow is not installed.
    """

    def __init__(self, run: FollowedRun, *, experiment: str) -> None:
        require("mlflow", "MLflow")
        from mlflow import MlflowClient

        store = os.environ.get("MLFLOW_TRACKING_URI")
        if not store:
            os.environ.setdefault(
                "MLFLOW_ALLOW_FILE_STORE", "true"
            )  # files are refused unless they are asked for
            store = (run.folder / "mlruns").absolute().as_uri()
        self._client = MlflowClient(store)
        self._handed = HandedOver(run.folder / "mlflow.json")
        if self._handed.name is None:
            self._begin(run, experiment)
        self._id = str(self._handed.name)
        self._client.update_run(self._id, status="RUNNING")

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._log("training", step, scalars)

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        self._log("validation", step, {f"val/{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        self._client.set_terminated(self._id)

    def _begin(self, run: FollowedRun, experiment: str) -> None:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if found is None else found.experiment_id
        begun = self._client.create_run(number, run_name=run.folder.name).info.run_id
        settings = (Param(key, str(value)[:LONGEST]) for key, value in _leaves(run.config))
        while some := list(islice(settings, AT_ONCE)):
            self._client.log_batch(begun, params=some)
        self._handed.begin(begun)

    def _log(self, event: str, step: int, scalars: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if self._handed.is_new(event, step):
            now = int(1000 * time.time())
            figures = [Metric(_named(name), float(value), now, step) for name, value in scalars.items()]
            self._client.log_batch(self._id, metrics=figures)
            self._handed.done(event, step)


def _named(name: str) -> str:
    return name.replace("@", "_at_")


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield _named(f"{prefix}{key}"), value
