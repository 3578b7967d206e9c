"""The training loop with its optimizer, schedule and batches, and what of them would not go together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from dml.assembly.loggers import check_loggers
from dml.assembly.parts import build_sampler
from dml.config import ConfigError, TrainConfig, build, checked, to_plain
from dml.data import Records, Sampler, Splits, contents, training_batches
from dml.devices import choose_device, choose_workers, prepare_device
from dml.distributed import is_main, world_size
from dml.environment import describe_environment
from dml.losses import Objective, split_by_class
from dml.model import EmbeddingModel
from dml.retrieval import Evaluator, choose_backend
from dml.run_folder import RunFolder
from dml.training import (
    BestOnTest,
    Trainer,
    Validation,
    batchnorm_layers,
    freeze_batchnorm,
    parameter_groups,
)
from dml.types import Batch

__all__ = ["build_trainer", "environment_of"]

log = logging.getLogger(__name__)


def build_trainer(
    cfg: TrainConfig,
    model: EmbeddingModel,
    objective: Objective,
    data: Splits,
    evaluator: Evaluator,
    run: RunFolder,
) -> Trainer:
    """The loop, its optimizer and scheduler, with model and objective moved to the device."""
    options = checked(cfg.trainer)
    check_loggers(cfg)
    _check_selection(cfg, evaluator)
    sampler = build_sampler(cfg, data.train)
    first = sampler.batch(0)
    _check_zero_shot(model, objective, data.train.labels[first])
    device = prepare_device(cfg)
    _check_shares(cfg, model, len(first))
    model.to(device), objective.to(device)
    if options.frozen_batchnorm:
        freeze_batchnorm(model.backbone)
    groups = parameter_groups(
        model, objective, lr=cfg.optimizer.lr, multipliers=asdict(checked(cfg.learning_rates))
    )
    _check_resting(cfg, groups)
    optimizer = _build_optimizer(cfg, groups)
    scheduler = build(cfg.scheduler)(optimizer, total_steps=options.max_steps)
    trainer = Trainer(
        model,
        objective,
        optimizer,
        scheduler,
        options,
        batches=_batches(cfg, data.train, sampler, choose_workers(cfg, device)),
        validate=_validation(cfg, evaluator, data, run),
        run=run,
        seed=cfg.seed,
        device=device,
        record={"config": to_plain(cfg), "environment": environment_of(cfg), "data": contents(data)},
        val_chooses=data.val_chooses,
    )
    _learn_draws(cfg, trainer)
    if is_main():
        _log_course(cfg, device, batch_size=len(first), images=len(data.train))
    return trainer


def _log_course(cfg: TrainConfig, device: torch.device, *, batch_size: int, images: int) -> None:
    """Say how much is trained, and on what."""
    size, steps = cfg.transform.size, cfg.trainer.max_steps
    log.info(
        "%s steps of %s images at %d × %d pixels: %.1f steps an epoch, %.1f epochs",
        f"{steps:,}",
        f"{batch_size:,}",
        size,
        size,
        images / batch_size,
        steps * batch_size / images,
    )
    workers, processes = choose_workers(cfg, device), world_size()
    among = f", {processes} processes" if processes > 1 else ""
    log.info("on %s%s: %d threads, %d that load images", device, among, torch.get_num_threads(), workers)


def _check_resting(cfg: TrainConfig, groups: list[dict[str, Any]]) -> None:
    others = [p for group in groups if group["name"] != "backbone" for p in group["params"]]
    steps = cfg.trainer.frozen_backbone_steps
    if steps and not any(parameter.requires_grad for parameter in others):
        raise ConfigError(
            f"trainer.frozen_backbone_steps={steps}: the backbone rests, and nothing else learns: give "
            "trainer.frozen_backbone_steps=0, or a rate in learning_rates to the head"
        )


def _build_optimizer(cfg: TrainConfig, groups: list[dict[str, Any]]) -> Optimizer:
    try:
        return cast(Optimizer, build(cfg.optimizer)(groups))
    except ValueError as error:  # that of the library names no key
        raise ConfigError(f"optimizer={cfg.optimizer['_target_']}: {error}; check its values") from error


def _validation(cfg: TrainConfig, evaluator: Evaluator, data: Splits, run: RunFolder) -> Validation:
    best_on_test = BestOnTest(run, select_by=cfg.trainer.select_by)

    def validate(model: EmbeddingModel) -> dict[str, float]:
        if data.follow_test and data.test is not None:
            best_on_test.update(evaluator(model, data.test).metrics)
        return evaluator(model, data.val).metrics

    return validate


def environment_of(cfg: TrainConfig) -> dict[str, Any]:
    """What a run of this configuration is executed on, here and now."""
    device = choose_device(cfg)
    backend, _ = choose_backend(cfg.evaluator.backend, device)
    return describe_environment(
        seed=cfg.seed, device=device, num_workers=choose_workers(cfg, device), search_backend=backend
    )


def _batches(
    cfg: TrainConfig, train: Records, sampler: Sampler, num_workers: int
) -> Callable[[int, int], Iterator[Batch]]:
    transform = build(cfg.transform.train)

    def batches(start: int, stop: int) -> Iterator[Batch]:
        return training_batches(
            train, transform, sampler, seed=cfg.seed, start=start, stop=stop, num_workers=num_workers
        )

    return batches


def _check_shares(cfg: TrainConfig, model: EmbeddingModel, batch_size: int) -> None:
    """Refuse what would make the numbers depend on how the batch is cut."""
    if batch_size < world_size():
        raise ConfigError(
            f"a batch of {batch_size} images cannot be shared by {world_size()} processes: start at most "
            f"{batch_size}, or raise the batch in sampler"
        )
    if _cut(cfg) and not cfg.trainer.frozen_batchnorm and any(batchnorm_layers(model)):
        raise ConfigError(
            "trainer.frozen_batchnorm=false: BatchNorm would take its statistics from parts of the batch, so the "
            "gradient would no longer be that of the batch; freeze it, or train in one process without "
            "trainer.micro_batch"
        )


def _cut(cfg: TrainConfig) -> bool:
    """Whether the model sees a batch in parts."""
    return world_size() > 1 or cfg.trainer.micro_batch is not None


def _learn_draws(cfg: TrainConfig, trainer: Trainer) -> None:
    """Try out what the model draws, and refuse what would draw something else for an image in another cut."""
    images = torch.zeros(2, 3, cfg.transform.size, cfg.transform.size, dtype=torch.uint8)
    if drawing := trainer.gradient.learn_draws(images, cut=_cut(cfg)):
        more = " and others" if len(drawing) > 3 else ""
        raise ConfigError(
            f"{', '.join(drawing[:3])}{more}: in training this draws random numbers that depend on how a batch is cut, "
            "so the numbers of the run would depend on it: set its dropout to 0, use a layer such as torch.nn.Dropout, "
            "or train in one process without trainer.micro_batch"
        )


def _check_zero_shot(model: EmbeddingModel, objective: Objective, labels: NDArray[np.int64]) -> None:
    if objective.zero_shot is None:
        return
    if not model.pooling.has_attributes:
        raise ConfigError(
            f"zero_shot.weight={objective.zero_shot_weight}: the zero-shot loss reads attributes, and this pooling has "
            "none: choose pooling=gsp, or switch the loss off with zero_shot.weight=0"
        )
    split_by_class(torch.from_numpy(labels))


def _check_selection(cfg: TrainConfig, evaluator: Evaluator) -> None:
    selectable = evaluator.of_rankings
    if cfg.trainer.select_by not in selectable:
        raise ConfigError(f"trainer.select_by={cfg.trainer.select_by}; accepted: {', '.join(selectable)}")
