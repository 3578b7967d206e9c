"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dml.losses import Losses, Objective
from dml.model import EmbeddingModel
from dml.randomness import torch_generator, torch_seed
from dml.training.checkpoint import load_checkpoint, save_checkpoint
from dml.training.interruption import Interrupted, StopRequest
from dml.training.loggers import Logger
from dml.training.optimization import freeze_batchnorm
from dml.types import Batch, Pooled

__all__ = ["NonFiniteLossError", "Trainer"]

Batches = Callable[[int, int], Iterator[Batch]]  # (start, stop) -> the batches of these steps
Validation = Callable[[EmbeddingModel], Mapping[str, float]]


class NonFiniteLossError(ArithmeticError):
    """A term of the loss became NaN or infinite; the message names step and term."""


class Trainer:
    """Steps, validation and checkpoints of one run.

    Checkpoints are ``last.pt`` (everything that is needed to go on; written at each validation and when the run is
    asked to stop) and ``best.pt`` (model and objective at the best validation so far).

    Args:
        model, objective, optimizer, scheduler: the finished parts, on ``device``.
        batches: gives the training batches of the steps from start to stop.
        validate: the metrics of the validation classes.
        folder: where the checkpoints lie.
        seed: the seed of the run.
        max_steps: 0 only initialises and validates.
        eval_every, log_every: steps between validations, between logged scalars.
        gradient_clip: largest norm of the gradient of all parameters; None leaves it alone.
        frozen_batchnorm: BatchNorm layers of the backbone keep their statistics and parameters.
        warmup_steps: steps in which the backbone gets no update.
        initialisation_batches: batches whose local features initialise the prototypes.
        select_by: the validation metric, larger is better, that chooses ``best.pt``.
        val_chooses: False: ``best.pt`` is always the newest, whatever the validation says.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        objective: Objective,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        *,
        batches: Batches,
        validate: Validation,
        folder: Path,
        seed: int,
        device: torch.device,
        max_steps: int,
        eval_every: int,
        log_every: int,
        gradient_clip: float | None,
        frozen_batchnorm: bool,
        warmup_steps: int,
        initialisation_batches: int,
        select_by: str,
        val_chooses: bool,
    ) -> None:
        self.model, self.objective, self.optimizer, self.scheduler = model, objective, optimizer, scheduler
        self.batches, self.validate, self.folder = batches, validate, folder
        self.seed, self.device = seed, device
        self.max_steps, self.eval_every, self.log_every = max_steps, eval_every, log_every
        self.gradient_clip, self.frozen_batchnorm, self.warmup_steps = (
            gradient_clip,
            frozen_batchnorm,
            warmup_steps,
        )
        self.initialisation_batches, self.select_by = initialisation_batches, select_by
        self.val_chooses = val_chooses
        self.step, self.resumed = 0, False
        self.best: dict[str, float] = {"step": -1, "value": -math.inf}

    def fit(self, loggers: Sequence[Logger]) -> None:
        """Train from the current step to the last.

        Raises:
            NonFiniteLossError: a term of the loss is NaN or infinite; the last checkpoints stay as they are.
            Interrupted: the process was asked to stop; the checkpoint of the step just done has been written.
        """
        with StopRequest() as stop:
            if not self.resumed:
                self._initialise_prototypes()
                self._validate(loggers)
            self._train_mode()
            for batch in self.batches(self.step, self.max_steps):
                if stop.requested:
                    self.save_last()
                    raise Interrupted(
                        f"stopped after step {self.step} of {self.max_steps} and saved; "
                        f"go on with: python train.py resume={self.folder.parent}"
                    )
                self._step(batch, loggers)

    def _step(self, batch: Batch, loggers: Sequence[Logger]) -> None:
        """One update, and whatever is due after it."""
        scalars = self._update(batch)
        self.step += 1
        due = self.step % self.eval_every == 0 or self.step == self.max_steps
        if self.step % self.log_every == 0 or due:
            for logger in loggers:
                logger.training(self.step, {name: float(value) for name, value in scalars().items()})
        if due:
            self._validate(loggers)

    def _update(self, batch: Batch) -> Callable[[], dict[str, Tensor | float]]:
        """One update; returns what to call for the scalars of the step, so that others cost nothing."""
        images = batch.images.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        with torch_seed(self.seed, "dropout", self.step):
            pooled = self.model(images)
            losses = self.objective(pooled, labels)
            self._check_finite(losses)
            self.optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
        if self.step < self.warmup_steps:
            self._drop_gradients("backbone")
        gradient_norm = self._clip_gradient()
        if not torch.isfinite(gradient_norm):
            raise NonFiniteLossError(self._not_finite("gradient norm", float(gradient_norm)))
        rates = self._learning_rates()
        self.optimizer.step()
        self.scheduler.step()
        return lambda: {
            **{f"loss/{name}": value.detach() for name, value in losses.terms().items()},
            "gradient_norm": gradient_norm,
            **rates,
            **weight_statistics(pooled),
        }

    def _check_finite(self, losses: Losses) -> None:
        if torch.isfinite(losses.total):
            return
        terms = {name: float(value.detach()) for name, value in losses.terms().items()}
        term = next(name for name, value in terms.items() if not math.isfinite(value))
        raise NonFiniteLossError(self._not_finite(f"{term} loss", terms[term]))

    def _not_finite(self, what: str, value: float) -> str:
        return (
            f"at step {self.step + 1} the {what} is {value}: lower optimizer.lr or trainer.gradient_clip; "
            f"the checkpoints in {self.folder} are from before and stay as they are"
        )

    def _clip_gradient(self) -> Tensor:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return clip_grad_norm_(parameters, math.inf if self.gradient_clip is None else self.gradient_clip)

    def _drop_gradients(self, role: str) -> None:
        for group in self.optimizer.param_groups:
            if group["name"] == role:
                for parameter in group["params"]:
                    parameter.grad = None

    def _learning_rates(self) -> dict[str, float]:
        return {f"learning_rate/{group['name']}": group["lr"] for group in self.optimizer.param_groups}

    def _train_mode(self) -> None:
        self.model.train()
        self.objective.train()
        if self.frozen_batchnorm:
            freeze_batchnorm(self.model.backbone)

    @torch.no_grad()
    def _initialise_prototypes(self) -> None:
        """Hand the local features of the first batches to a pooling that has prototypes to place."""
        initialise = getattr(self.model.pooling, "initialise_prototypes", None)
        if initialise is None:
            return
        self.model.eval()
        batches: Iterable[Batch] = self.batches(0, self.initialisation_batches)
        features = torch.cat([self.model.features(batch.images.to(self.device)) for batch in batches])
        initialise(features, generator=torch_generator(self.seed, "prototypes"))

    def _validate(self, loggers: Sequence[Logger]) -> None:
        metrics = self.validate(self.model)
        better = metrics[self.select_by] > self.best["value"]
        if better:
            self.best = {"step": self.step, "value": metrics[self.select_by]}
        if better or not self.val_chooses:
            save_checkpoint(self.folder / "best.pt", self._weights())
        for (
            logger
        ) in loggers:  # before last.pt: rows beyond it are dropped on resume, missing ones would stay missing
            logger.evaluation(self.step, metrics)
        self.save_last()

    def save_last(self) -> None:
        """Write everything that is needed to go on from the current step."""
        state = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        save_checkpoint(self.folder / "last.pt", {**self._weights(), **state, "best": self.best})

    def resume(self) -> None:
        """Go back to where ``last.pt`` was written; to the start, if the run ended before that."""
        if not (self.folder / "last.pt").exists():
            return
        state = load_checkpoint(self.folder / "last.pt")
        for part in ("model", "objective", "optimizer", "scheduler"):
            getattr(self, part).load_state_dict(state[part])
        self.step, self.best, self.resumed = state["step"], state["best"], True

    def _weights(self) -> dict[str, Any]:
        return {"step": self.step, "model": self.model.state_dict(), "objective": self.objective.state_dict()}


def weight_statistics(pooled: Pooled) -> dict[str, Tensor]:
    """How far the weights of the locations are from uniform, averaged over the batch.

    ``spread`` is their standard deviation relative to their mean (0 for average pooling); ``effective_locations``
    is the share of the locations that would give the same ``Σ weights²`` if only they counted, all alike.
    """
    if pooled.weights is None:
        return {}
    weights = pooled.weights.detach()
    locations = weights.shape[1]
    energy = locations * weights.square().sum(dim=1)  # 1 for uniform weights
    return {
        "weights/spread": (energy - 1).clamp(min=0).sqrt().mean(),
        "weights/effective_locations": energy.reciprocal().mean(),
    }
