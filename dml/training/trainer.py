"""The training loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dml.distributed import barrier, copy_from_main, gather_numbers, is_main, world_size
from dml.errors import CheckpointError
from dml.losses import Losses, Objective
from dml.model import EmbeddingModel
from dml.randomness import torch_generator
from dml.run_folder import RunFolder
from dml.training.checkpoint import load_checkpoint, load_part, save_checkpoint
from dml.training.gradients import BatchGradient
from dml.training.interruption import Interrupted, StopRequest
from dml.training.loggers import Logger
from dml.training.optimization import freeze_batchnorm, use_batch_statistics, warn_of_fresh_batchnorm
from dml.training.pooling_statistics import collapse_warnings, pooling_statistics
from dml.training.prototype_features import prototype_features
from dml.training.readings import Readings, check_weights
from dml.training.replicas import check_replicas
from dml.training.restoring import restore_optimization
from dml.training.save_timer import SaveTimer
from dml.types import Batch, Pooled

__all__ = ["Trainer", "Validation"]

REHEARSAL = 100  # steps in which nothing could be learned anyway, so that nobody need be warned
LAST = (
    "step",
    "objective",
    "optimizer",
    "scheduler",
    "scaler",
    "best",
    "record",
)  # beside the model, in last.pt
Batches = Callable[[int, int], Iterator[Batch]]  # (start, stop) -> the batches of these steps
Validation = Callable[[EmbeddingModel], Mapping[str, float]]


class Trainer:
    """Steps, validation and checkpoints of one run.

    Checkpoints are ``last.pt`` (everything that is needed to go on; written at each validation, as ``save_every`` says,
    and when the run is asked to stop) and ``best.pt`` (model and objective at the best validation so far). With several
    processes each has its share of every batch, all start from the weights of the main one, and the main one writes.

    Args:
        model, objective, optimizer, scheduler: the finished parts, on ``device``.
        batches: gives the training batches of the steps from start to stop, the share of this process.
        validate: the metrics of the validation classes.
        run: where the checkpoints lie.
        seed: the seed of the run.
        record: what else is needed to repeat the run, plain values; it goes into ``last.pt``.
        max_steps: 0 only initialises and validates.
        eval_every, log_every: steps between validations, between logged scalars.
        save_every: see `SaveTimer`.
        gradient_clip: largest norm of the gradient of all parameters; None leaves it alone.
        frozen_batchnorm: BatchNorm layers of the backbone keep their statistics and parameters.
        warmup_steps: steps in which the backbone rests: it gets no gradient and no update.
        initialisation_batches: batches whose local features initialise the prototypes.
        initialisation_locations: local features that are taken of them at most; None takes all.
        select_by: the validation metric, larger is better, that chooses ``best.pt``.
        patience: validations without a better figure that end the run; None never does.
        ema: decay of a running mean of the weights, which is then validated and kept; None for the weights alone.
        precision, micro_batch, compile: see `BatchGradient`.
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
        run: RunFolder,
        seed: int,
        device: torch.device,
        record: Mapping[str, Any],
        max_steps: int,
        eval_every: int,
        log_every: int,
        save_every: str | None,
        gradient_clip: float | None,
        frozen_batchnorm: bool,
        warmup_steps: int,
        initialisation_batches: int,
        initialisation_locations: int | None,
        select_by: str,
        patience: int | None,
        ema: float | None,
        precision: str,
        micro_batch: int | None,
        compile: bool,
        val_chooses: bool,
    ) -> None:
        self.model, self.objective, self.optimizer, self.scheduler = model, objective, optimizer, scheduler
        self.batches, self.validate, self.record = batches, validate, record
        self.run, self.folder = run, run.checkpoints
        self.seed, self.device = seed, device
        self.max_steps, self.eval_every, self.log_every = max_steps, eval_every, log_every
        self.gradient_clip, self.frozen_batchnorm = gradient_clip, frozen_batchnorm
        self.warmup_steps, self.initialisation_batches = warmup_steps, initialisation_batches
        self.initialisation_locations = initialisation_locations
        self.select_by, self.patience, self.micro_batch = select_by, patience, micro_batch
        self.gradient = BatchGradient(
            model,
            objective,
            device=device,
            seed=seed,
            micro_batch=micro_batch,
            precision=precision,
            compile=compile,
        )
        self.average = (
            None if ema is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))  # type: ignore[no-untyped-call]
        )
        self.val_chooses = val_chooses
        self.readings = Readings(device, norm_may_overflow=self.gradient.scaler.is_enabled())
        self.timer = SaveTimer(save_every)
        self.step, self.resumed = 0, False
        self.unvalidated: dict[str, float] | None = {}  # scalars of the step, while its validation is due
        self.learning_backbone = [p for p in model.backbone.parameters() if p.requires_grad]
        self.warned_of: set[str] = set()
        self.best: dict[str, float] = {"step": -1, "value": -math.inf}

    def fit(self, loggers: Sequence[Logger], *, until: int | None = None) -> None:
        """Train from the current step to the last, or until patience ends.

        Args:
            until: leave the run after this step, as if it had been interrupted there; None goes to its end.

        Raises:
            NonFiniteLossError: a term of the loss is NaN or infinite; the last checkpoints stay as they are.
            ReplicaError: the processes hold different weights; the last checkpoints stay as they are.
            Interrupted: the process was asked to stop; the checkpoint of the step just done has been written.
        """
        with StopRequest() as stop:
            self._fit(loggers, stop, self.max_steps if until is None else min(until, self.max_steps))
        barrier()  # the checkpoints are there for every process

    def _fit(self, loggers: Sequence[Logger], stop: StopRequest, until: int) -> None:
        self.timer.saved(self.step)
        copy_from_main(self._weights_and_buffers())
        if not self.resumed:
            if self.frozen_batchnorm and self.max_steps > REHEARSAL and is_main():
                warn_of_fresh_batchnorm(self.model.backbone)
            self._initialise_prototypes()
            copy_from_main(self._weights_and_buffers())
        self._check_replicas()
        self._train_mode()
        if self.unvalidated is not None:
            if self.unvalidated:
                _log(loggers, "training", self.step, self.unvalidated)
            self._validate(loggers, stop)
        if not self._out_of_patience():
            for batch in self.batches(self.step, until):
                numbers = gather_numbers(len(batch.labels), stop.number, self.timer.due(self.step))
                sizes, requests, due = numbers.T.tolist()
                if any(requests):
                    self._interrupt(loggers, max(requests))
                if due[0]:
                    self._save_last(loggers)
                self._step(batch, sizes, loggers, stop)
                if self._out_of_patience():
                    break
        self._obey(loggers, stop)

    def _obey(self, loggers: Sequence[Logger], stop: StopRequest) -> None:
        """Save and leave the run, if any process was asked to."""
        if number := int(gather_numbers(stop.number).max()):
            self._interrupt(loggers, number)

    def _interrupt(self, loggers: Sequence[Logger], number: int) -> NoReturn:
        saved = "saved" if self._save_last(loggers) else "not saved"
        raise Interrupted(
            f"stopped after step {self.step} of {self.max_steps} and {saved}; "
            f"go on with: python train.py resume={self.run}",
            number=number,
        )

    def _step(self, batch: Batch, sizes: list[int], loggers: Sequence[Logger], stop: StopRequest) -> None:
        """One update, and whatever is due after it."""
        losses, pooled, gradient_norm, rates = self._update(batch, sizes)
        if not self.readings.were_finite():
            self._read(loggers, {})
        self.step += 1
        self.readings.add(self.step, losses, gradient_norm)
        due = self.step % self.eval_every == 0 or self.step == self.max_steps
        scalars: dict[str, float] = {}
        if loggers and (self.step % self.log_every == 0 or due):
            terms = {f"loss/{name}": value for name, value in losses.terms().items()}
            statistics = pooling_statistics(pooled)
            scalars = self._read(loggers, {**terms, "gradient_norm": gradient_norm, **rates, **statistics})
            _log(loggers, "training", self.step, scalars)
            if due and self.step > self.warmup_steps:
                self._warn_of_collapse(pooled)
        elif self.readings.cost_nothing or self.step % self.log_every == 0 or due:
            self._read(loggers, {})
        if due:
            self.unvalidated = scalars
            self._validate(loggers, stop)

    def _read(self, loggers: Sequence[Logger], further: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Log the steps that wait to be read; further scalars are read with them."""
        return self.readings.read(further, lambda *row: _log(loggers, "step", *row))

    def _warn_of_collapse(self, pooled: Pooled) -> None:
        """Say once in a run what the pooling no longer does."""
        for statistic, sentence in collapse_warnings(pooled).items():
            if statistic not in self.warned_of:
                self.warned_of.add(statistic)
                warnings.warn(f"step {self.step}: {sentence}", stacklevel=2)

    def _update(self, batch: Batch, sizes: list[int]) -> tuple[Losses, Pooled, Tensor, dict[str, float]]:
        """One update; returns what the step had to say."""
        self.optimizer.zero_grad(set_to_none=True)
        self._let_backbone_rest(self.step < self.warmup_steps)
        losses, pooled, labels = self.gradient(batch, self.step, sizes)
        self.gradient.scaler.unscale_(self.optimizer)
        gradient_norm = self._clip_gradient()
        rates = self._learning_rates()
        if self.gradient.step(self.optimizer):
            if not isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step()
            self.objective.remember(pooled, labels)
            if self.average is not None:
                self.average.update_parameters(self.model)
        return losses, pooled, gradient_norm, rates

    def _clip_gradient(self) -> Tensor:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return clip_grad_norm_(parameters, math.inf if self.gradient_clip is None else self.gradient_clip)

    def _let_backbone_rest(self, resting: bool) -> None:
        if self.step <= self.warmup_steps:
            for parameter in self.learning_backbone:
                parameter.requires_grad_(not resting)

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
        if not self.frozen_batchnorm:
            use_batch_statistics(
                self.model
            )  # the running ones say nothing yet about a network that starts anew
        running = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        limit = self.initialisation_locations
        features = prototype_features(
            self._features,
            self.batches(0, self.initialisation_batches),
            limit=None if limit is None else limit // self.initialisation_batches,
            seed=self.seed,
            micro_batch=self.micro_batch,
        )
        self.model.load_state_dict(running, strict=False)
        initialise(features, generator=torch_generator(self.seed, "prototypes"))

    def _features(self, images: Tensor) -> Tensor:
        """What prototypes start from: local features, or where they start from pooled ones the mean of an image."""
        features = self.model.features(images.to(self.device))
        if getattr(self.model.pooling, "prototype_start", None) != "pooled":
            return features
        locations = features.flatten(2) if features.ndim == 4 else features.mT
        return locations.mean(2).unsqueeze(1)

    def _validate(self, loggers: Sequence[Logger], stop: StopRequest) -> None:
        if world_size() > 1:  # which do not leave a validation, and torchrun waits 30 seconds for them
            self._save_last(loggers)
        self._obey(loggers, stop)
        try:
            with stop.at_once():
                metrics = self.validate(self._validated())
        except Interrupted as request:
            self._interrupt(loggers, request.number)
        better = metrics[self.select_by] > self.best["value"]
        if better:
            self.best = {"step": self.step, "value": metrics[self.select_by]}
        if better or not self.val_chooses:
            self._save("best.pt", self._weights(self._validated()))
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(metrics[self.select_by])
        # before last.pt: rows beyond it are dropped on resume, missing ones would stay missing
        _log(loggers, "evaluation", self.step, metrics)
        _log(loggers, "validated", self.step, self._validated())
        self.unvalidated = None
        self._save_last(loggers)

    def _validated(self) -> EmbeddingModel:
        """The running mean of the weights, once there is one."""
        if self.average is None or not self.average.n_averaged:
            return self.model
        return cast(EmbeddingModel, self.average.module)

    def _out_of_patience(self) -> bool:
        waited = self.step - self.best["step"]
        return self.patience is not None and waited >= self.patience * self.eval_every

    def _save_last(self, loggers: Sequence[Logger]) -> bool:
        """Write everything that is needed to go on from the current step, with nothing in it that is not finite."""
        self._read(loggers, {})
        check_weights(self.step, (*self.model.parameters(), *self.objective.parameters()))
        self._check_replicas()
        self.timer.saved(self.step)
        state = {name: getattr(self, name).state_dict() for name in ("optimizer", "scheduler")}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        state["scaler"] = self.gradient.scaler.state_dict()
        course = {"best": self.best, "unvalidated": self.unvalidated, "record": dict(self.record)}
        return self._save("last.pt", {**self._weights(self.model), **state, **course})

    def _save(self, name: str, state: Mapping[str, Any]) -> bool:
        """A full disk costs the checkpoint, not the run: the one before stays, and training goes on.

        Returns whether all is well.
        """
        if not is_main():
            return True
        try:
            save_checkpoint(self.folder / name, state)
        except OSError as error:
            _warn_of_lost(f"{name} of step {self.step}", error)
            return False
        return True

    def _check_replicas(self) -> None:
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        check_replicas([*self._weights_and_buffers(), *filter(torch.is_tensor, moments)], self.step)

    def _weights_and_buffers(self) -> list[Tensor]:
        """Of all that is trained or averaged."""
        parts = [self.model, self.objective, *([] if self.average is None else [self.average])]
        return [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]

    def resume(self) -> None:
        """Go back to where ``last.pt`` was written; to the start, if the run ended before that.

        Values of the optimizer and of the schedule that the configuration changed since then hold from here on.

        Raises:
            CheckpointError: the checkpoint is damaged, does not fit the parts, or its schedule has another length.
            ConfigError: a changed value of the optimizer or of the schedule cannot be applied to what was saved.
        """
        path = self.run.last
        if not path.exists():
            return
        state = load_checkpoint(path, *LAST)
        drawn_over = state["scheduler"].get("total_steps", self.max_steps)
        if drawn_over != self.max_steps:
            raise CheckpointError(
                f"trainer.max_steps={self.max_steps}, but the schedule of this run was drawn over {drawn_over} steps: "
                "start a new run for another length, or use scheduler=constant or plateau, which have none"
            )
        for part in ("model", "objective"):
            load_part(getattr(self, part), state, part, path)
        restore_optimization(self.optimizer, self.scheduler, state, path, now=self.record["config"])
        if self.gradient.scaler.is_enabled() and state["scaler"]:
            self.gradient.scaler.load_state_dict(state["scaler"])
        if self.average is not None and "average" in state:
            load_part(self.average, state, "average", path)
        self.step, self.best, self.resumed = state["step"], state["best"], True
        self.unvalidated = state.get("unvalidated")

    def _weights(self, model: EmbeddingModel) -> dict[str, Any]:
        return {"step": self.step, "model": model.state_dict(), "objective": self.objective.state_dict()}


def _log(loggers: Sequence[Logger], event: str, *values: Any) -> None:
    for logger in loggers:
        try:
            getattr(logger, event)(*values)
        except OSError as error:
            _warn_of_lost(f"the log of step {values[0]}", error)


def _warn_of_lost(what: str, error: OSError) -> None:
    warnings.warn(
        f"{what} could not be written ({error}); what was there before stays, and the run goes on: "
        "make room on that disk",
        stacklevel=3,
    )
