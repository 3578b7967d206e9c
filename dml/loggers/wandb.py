"""Weights & Biases."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, cast

from dml.contracts import FollowedRun, Logger
from dml.loggers.services import HandedOver, require
from dml.model import EmbeddingModel

__all__ = ["WandbLogger"]

FLUSH = 1.0  # seconds between writes of rows to its file; 15 if nothing is said


class WandbLogger(Logger):
    """A run of Weights & Biases with the configuration and all scalars, under the names of history.csv.

    Its files lie in ``wandb/`` of the run folder. A resumed run goes on under the same name there. Each row has the
    step of the training as ``step``, over which all figures are drawn. A process that is killed outright takes with it
    what Weights & Biases had not written yet, about a second of rows.

    Args:
        run: what is followed.
        project: that it belongs to.
        entity: user or team; None for that of the account.
        mode: online, offline (files to be sent later by ``wandb sync``) or disabled; None leaves it to WANDB_MODE.

    Raises:
        UnavailableError: wandb is not installed.
    """

    def __init__(
        self, run: FollowedRun, *, project: str, entity: str | None = None, mode: str | None = None
    ) -> None:
        require("wandb", "Weights & Biases")
        import wandb

        self._handed = HandedOver(run.folder / "wandb.json")
        name = self._handed.name or uuid.uuid4().hex[:8]
        self._run = wandb.init(
            dir=run.folder,
            id=name,
            name=run.folder.name,
            resume="allow",
            project=project,
            entity=entity,
            mode=cast("Any", mode),
            config=dict(run.config),
            allow_val_change=True,
            settings=wandb.Settings(**_settings(wandb.Settings)),
        )
        self._run.define_metric("*", step_metric="step")
        self._handed.begin(name)

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        self._log("training", step, scalars)

    def validation(self, step: int, metrics: Mapping[str, float], model: EmbeddingModel) -> None:
        self._log("validation", step, {f"val/{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        self._run.finish()

    def _log(self, event: str, step: int, scalars: Mapping[str, float]) -> None:
        if self._handed.is_new(event, step):
            self._run.log({"step": step, **scalars})
            self._handed.done(event, step)


def _settings(known: Any) -> dict[str, Any]:
    """What is printed stays where it is, and rows are written soon, where this version can be told so."""
    soon = {"x_transaction_log_flush_interval": FLUSH}
    return {"console": "off", **{key: value for key, value in soon.items() if key in known.model_fields}}
