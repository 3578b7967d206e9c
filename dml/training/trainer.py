"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dml.config import TrainerOptions
from dml.distributed import barrier, copy_from_main, gather_numbers, is_main, world_size
from dml.losses import Losses, Objective
from dml.model import EmbeddingModel
from dml.overrides import resume_command
from dml.run_folder import RunFolder
from dml.signals import Interrupted
from dml.training.best_checkpoint import BestCheckpoint
from dml.training.checkpoint import load_checkpoint, load_part, save_unless_full
from dml.training.class_mapping import ClassMapping
from dml.training.gradients import BatchGradient
from dml.training.interruption import StopRequest
from dml.training.loggers import Logger, tell
from dml.training.optimization import clip_gradient, freeze_batchnorm, warn_of_fresh_batchnorm
from dml.training.pooling_statistics import pooling_statistics, warn_of_collapse
from dml.training.prototype_features import initialise_prototypes
from dml.training.readings import Readings, check_weights
from dml.training.replicas import check_replicas
from dml.training.restoring import restore_optimization
from dml.training.save_timer import SaveTimer
from dml.types import Batch, Pooled

__all__ = ["Trainer", "Validation"]

LAST = ("step", "objective", "optimizer", "scheduler", "scaler", "best", "record")  # beside the model
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
        options: see `TrainerOptions`.
        validate: the metrics of the validation classes.
        run: where the checkpoints lie.
        seed: the seed of the run.
        record: what else is needed to repeat the run, plain values; it goes into ``last.pt``.
        val_chooses: False: ``best.pt`` is always the newest, whatever the validation says.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        objective: Objective,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        options: TrainerOptions,
        *,
        batches: Batches,
        validate: Validation,
        run: RunFolder,
        seed: int,
        device: torch.device,
        record: Mapping[str, Any],
        val_chooses: bool,
    ) -> None:
        self.model, self.objective, self.optimizer, self.scheduler = model, objective, optimizer, scheduler
        self.options, self.batches, self.validate, self.record = options, batches, validate, record
        self.run, self.seed, self.device = run, seed, device
        self.gradient = BatchGradient(
            model,
            objective,
            device=device,
            seed=seed,
            micro_batch=options.micro_batch,
            precision=options.precision,
            compile=options.compile,
        )
        self.average: AveragedModel | None = None
        if options.ema is not None:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.ema))  # type: ignore[no-untyped-call]
        self.readings = Readings(device, norm_may_overflow=self.gradient.scaler.is_enabled())
        self.timer = SaveTimer(options.save_every)
        self.step, self.resumed, self.best_is_lost = 0, False, False
        self.unvalidated: dict[str, float] | None = {}  # scalars of the step, while its validation is due
        self.learning_backbone = [p for p in model.backbone.parameters() if p.requires_grad]
        self.warned_of: set[str] = set()
        self.kept = BestCheckpoint(run, select_by=options.select_by, val_chooses=val_chooses)

    def fit(self, loggers: Sequence[Logger], *, until: int | None = None) -> None:
        """Train from the current step to the last, or until patience ends.

        Args:
            until: leave the run after this step, as if it had been interrupted there; None goes to its end.

        Raises:
            NonFiniteLossError: a term of the loss is NaN or infinite; the last checkpoints stay as they are.
            ReplicaError: the processes hold different weights; the last checkpoints stay as they are.
            Interrupted: the process was asked to stop; the checkpoint of the step just done has been written.
            FileError: the disk took no ``best.pt``.
        """
        last = self.options.max_steps
        with StopRequest() as stop:
            self._fit(loggers, stop, last if until is None else min(until, last))
        self.kept.check(lambda: self._weights(self._kept_model()))
        barrier()  # the checkpoints are there for every process

    def _fit(self, loggers: Sequence[Logger], stop: StopRequest, until: int) -> None:
        self.timer.saved(self.step)
        copy_from_main(self._weights_and_buffers())
        if not self.resumed:
            if self.options.frozen_batchnorm and is_main():
                warn_of_fresh_batchnorm(self.model.backbone, self.options.max_steps)
            self._initialise_prototypes()
            copy_from_main(self._weights_and_buffers())
        self._check_replicas()
        self._train_mode()
        if self.unvalidated is not None or self.best_is_lost:
            if self.unvalidated:
                tell(loggers, "training", self.step, self.unvalidated)
            self._validate_and_save(loggers, stop)
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
        saved = "saved" if self._save_last(loggers) is None else "not saved"
        raise Interrupted(
            f"stopped after step {self.step} of {self.options.max_steps} and {saved}; "
            f"go on with: {resume_command(self.run)}",
            number=number,
        )

    def _step(self, batch: Batch, sizes: list[int], loggers: Sequence[Logger], stop: StopRequest) -> None:
        """One update, and whatever is due after it."""
        losses, pooled, gradient_norm, rates = self._update(batch, sizes)
        if not self.readings.were_finite():
            self._read(loggers, {})
        self.step += 1
        self.readings.add(self.step, losses, gradient_norm)
        due = self.step % self.options.eval_every == 0 or self.step == self.options.max_steps
        scalars: dict[str, float] = {}
        if loggers and (self.step % self.options.log_every == 0 or due):
            terms = {f"loss/{name}": value for name, value in losses.terms().items()}
            statistics = pooling_statistics(pooled)
            scalars = self._read(loggers, {**terms, "gradient_norm": gradient_norm, **rates, **statistics})
            tell(loggers, "training", self.step, scalars)
            if due and self.step > self.options.frozen_backbone_steps:
                warn_of_collapse(self.step, pooled, self.warned_of)
        elif self.readings.cost_nothing or self.step % self.options.log_every == 0 or due:
            self._read(loggers, {})
        if due:
            self.unvalidated = scalars
            self._validate_and_save(loggers, stop)

    def _read(self, loggers: Sequence[Logger], further: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Log the steps that wait to be read; further scalars are read with them."""
        return self.readings.read(further, lambda *row: tell(loggers, "step", *row))

    def _update(self, batch: Batch, sizes: list[int]) -> tuple[Losses, Pooled, Tensor, dict[str, float]]:
        """One update; returns what the step had to say."""
        self.optimizer.zero_grad(set_to_none=True)
        self._let_backbone_rest(self.step < self.options.frozen_backbone_steps)
        losses, pooled, labels, images = self.gradient(batch, self.step, sizes)
        self.gradient.scaler.unscale_(self.optimizer)
        gradient_norm = clip_gradient(self.optimizer, self.options.gradient_clip)
        rates = {f"learning_rate/{group['name']}": group["lr"] for group in self.optimizer.param_groups}
        if self.gradient.step(self.optimizer):
            if not isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step()
            self.objective.remember(pooled, labels, images)
            if self.average is not None:
                self.average.update_parameters(self.model)
        return losses, pooled, gradient_norm, rates

    def _let_backbone_rest(self, resting: bool) -> None:
        if self.step <= self.options.frozen_backbone_steps:
            for parameter in self.learning_backbone:
                parameter.requires_grad_(not resting)

    def _train_mode(self) -> None:
        self.model.train(), self.objective.train()
        if self.options.frozen_batchnorm:
            freeze_batchnorm(self.model.backbone)

    def _initialise_prototypes(self) -> None:
        initialise_prototypes(self.model, self.batches, self.options, seed=self.seed, device=self.device)

    def _validate_and_save(self, loggers: Sequence[Logger], stop: StopRequest) -> None:
        if world_size() > 1:  # which do not leave a validation, and torchrun waits 30 seconds for them
            self._save_last(loggers)
        self._obey(loggers, stop)
        model = self._kept_model()
        try:
            with stop.at_once():
                metrics = self.validate(model)
        except Interrupted as request:
            self._interrupt(loggers, request.number)
        self.kept.consider(self.step, metrics, self._weights(model))
        if self.unvalidated is not None:  # else it is repeated, because its best.pt is lost
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(self.kept.score(metrics))
            # before last.pt: rows beyond it are dropped on resume, missing ones would stay missing
            tell(loggers, "validation", self.step, metrics, model)
        self.unvalidated = None
        self._save_last(loggers)

    def _kept_model(self) -> EmbeddingModel:
        """What is validated and kept: the running mean of the weights, once there is one."""
        if self.average is None or not self.average.n_averaged:
            return self.model
        return cast(EmbeddingModel, self.average.module)

    def _out_of_patience(self) -> bool:
        waited, patience = self.step - self.kept.figure["step"], self.options.patience
        return patience is not None and waited >= patience * self.options.eval_every

    def _save_last(self, loggers: Sequence[Logger]) -> OSError | None:
        """Write everything that is needed to go on from the current step, with nothing in it that is not finite.

        Returns why it could not be written; None if it was.
        """
        self._read(loggers, {})
        check_weights(self.step, (*self.model.parameters(), *self.objective.parameters()))
        self._check_replicas()
        self.timer.saved(self.step)
        state = {name: getattr(self, name).state_dict() for name in ("optimizer", "scheduler")}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        state["scaler"] = self.gradient.scaler.state_dict()
        course = {"best": self.kept.figure, "unvalidated": self.unvalidated, "record": dict(self.record)}
        return save_unless_full(self.run.last, {**self._weights(self.model), **state, **course})

    def _check_replicas(self) -> None:
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        check_replicas([*self._weights_and_buffers(), *filter(torch.is_tensor, moments)], self.step)

    def _weights_and_buffers(self) -> list[Tensor]:
        """Of all that is trained or averaged."""
        parts = [self.model, self.objective, *([] if self.average is None else [self.average])]
        return [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]

    def resume(self, classes: ClassMapping | None = None) -> None:
        """Go back to where ``last.pt`` was written; to the start, if the run ended before that.

        Values of the optimizer and of the schedule that the configuration changed since then hold from here on.

        Args:
            classes: which classes are which, if the data set has other classes or images than it had; else None.

        Raises:
            CheckpointError: the checkpoint is damaged, does not fit the parts, or its schedule has another length.
            ConfigError: a changed value of the optimizer or of the schedule cannot be applied to what was saved.
        """
        path = self.run.last
        if not path.exists():
            return
        state = load_checkpoint(path, *LAST)
        if classes is not None:
            state = classes.carry_over(state, self.objective, self.optimizer)
            if classes.new_figure:
                state["best"] = {**self.kept.figure, "step": state["step"]}
        for part in ("model", "objective"):
            load_part(getattr(self, part), state, part, path)
        restore_optimization(self.optimizer, self.scheduler, state, path, now=self.record["config"])
        if self.gradient.scaler.is_enabled() and state["scaler"]:
            self.gradient.scaler.load_state_dict(state["scaler"])
        if self.average is not None and "average" in state:
            load_part(self.average, state, "average", path)
        self.step, self.resumed = state["step"], True
        self.unvalidated = state.get("unvalidated")
        self.best_is_lost = not self.run.best.exists()  # then what is validated next is the best so far
        self.kept.figure = self.kept.none_yet() if self.best_is_lost else state["best"]

    def _weights(self, model: EmbeddingModel) -> dict[str, Any]:
        return {"step": self.step, "model": model.state_dict(), "objective": self.objective.state_dict()}
