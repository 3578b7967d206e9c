"""From a configuration to finished parts. Everything that can be refused is refused here, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from dml.config import ConfigError, TrainConfig, build, late_values
from dml.data import Records, Sampler, Splits, evaluation_batches, training_batches
from dml.losses import Objective, ZeroShotLoss, split_by_class
from dml.model import EmbeddingModel
from dml.randomness import torch_seed
from dml.retrieval import BACKENDS, Evaluator, RetrievalMetrics
from dml.training import HistoryLogger, Logger, ProgressLogger, TensorBoardLogger, Trainer, parameter_groups
from dml.training.best_on_test import BestOnTest
from dml.training.optimization import freeze_batchnorm
from dml.training.trainer import Validation
from dml.types import Batch

__all__ = [
    "build_data",
    "build_evaluator",
    "build_model",
    "build_objective",
    "build_trainer",
    "choose_device",
    "open_loggers",
]


NO_WEIGHTS = {"pretrained": False, "checkpoint": None}  # of a backbone, when its weights come from a run


def build_data(cfg: TrainConfig) -> Splits:
    """Read the data set and split its classes by the protocol."""
    return cast(Splits, build(cfg.protocol)(build(cfg.dataset)))


def build_model(cfg: TrainConfig, *, pretrained: bool = True) -> EmbeddingModel:
    """The model at the start of training; with ``pretrained=False`` no published weights are read.

    Each part is initialised from the seed and its own name, so that two runs that differ in one part start from
    the same weights in all others.
    """
    if cfg.embedding_dim < 1:
        raise ConfigError(f"embedding_dim={cfg.embedding_dim} must be at least 1")
    preprocess = build(cfg.transform.evaluation)
    backbone_config = cfg.backbone.copy()
    if not pretrained:
        backbone_config.update({key: value for key, value in NO_WEIGHTS.items() if key in backbone_config})
    with torch_seed(cfg.seed, "backbone"):
        backbone = build(backbone_config)
    with torch_seed(cfg.seed, "pooling"):
        pooling = _build_pooling(cfg, backbone.out_channels)
    with torch_seed(cfg.seed, "projection"):
        return EmbeddingModel(backbone, pooling, embedding_dim=cfg.embedding_dim, preprocess=preprocess)


def _build_pooling(cfg: TrainConfig, out_channels: int) -> torch.nn.Module:
    before = getattr(hydra.utils.get_class(cfg.pooling["_target_"]), "pools_embedded", False)
    return cast(
        torch.nn.Module, build(cfg.pooling, in_channels=cfg.embedding_dim if before else out_channels)
    )


def build_objective(cfg: TrainConfig, num_classes: int) -> Objective:
    """The metric loss, and the zero-shot loss unless its weight is 0. Fills what the loss leaves open in ``cfg``."""
    late_values(cfg.loss, num_classes=num_classes, embedding_size=cfg.embedding_dim)
    with torch_seed(cfg.seed, "loss"):
        metric = build(cfg.loss)
    zero_shot, options = None, cfg.zero_shot
    if options.weight:
        with torch_seed(cfg.seed, "zero_shot"):
            zero_shot = ZeroShotLoss(num_classes, cfg.embedding_dim, ridge=options.ridge, scale=options.scale)
    return Objective(metric, zero_shot, zero_shot_weight=options.weight)


def build_evaluator(cfg: TrainConfig, data: Splits) -> Evaluator:
    """What embeds and measures a set; refuses sets that could not be measured after training."""
    batches = partial(
        evaluation_batches,
        transform=build(cfg.transform.evaluation),
        batch_size=cfg.evaluator.batch_size,
        num_workers=cfg.num_workers,
    )
    options = cfg.evaluator
    _check_evaluator(cfg)
    evaluator = Evaluator(
        batches, recall_at=options.recall_at, backend=options.backend, device=choose_device(cfg)
    )
    evaluator.check(data.val, "validation")
    evaluator.check(data.test, "test")
    return evaluator


def build_trainer(
    cfg: TrainConfig,
    model: EmbeddingModel,
    objective: Objective,
    data: Splits,
    evaluator: Evaluator,
    folder: Path,
) -> Trainer:
    """The loop, its optimizer and scheduler, with model and objective moved to the device."""
    _check_trainer(cfg)
    sampler = build(cfg.sampler)(data.train.labels, seed=cfg.seed)
    _check_zero_shot(model, objective, data.train.labels[sampler.batch(0)])
    device = choose_device(cfg)
    model.to(device), objective.to(device)
    if cfg.trainer.frozen_batchnorm:
        freeze_batchnorm(model.backbone)
    groups = parameter_groups(model, objective, lr=cfg.optimizer.lr, multipliers=_multipliers(cfg))
    optimizer = build(cfg.optimizer)(groups)
    scheduler = build(cfg.scheduler)(optimizer, total_steps=cfg.trainer.max_steps)
    options = {str(name): value for name, value in cast(DictConfig, cfg.trainer).items() if name != "device"}
    return Trainer(
        model,
        objective,
        optimizer,
        scheduler,
        batches=_batches(cfg, data.train, sampler),
        validate=_validation(cfg, evaluator, data, folder.parent),
        folder=folder,
        seed=cfg.seed,
        device=device,
        val_chooses=data.val_chooses,
        **options,
    )


def _validation(cfg: TrainConfig, evaluator: Evaluator, data: Splits, folder: Path) -> Validation:
    best_on_test = BestOnTest(folder, select_by=cfg.trainer.select_by)

    def validate(model: EmbeddingModel) -> RetrievalMetrics:
        if data.follow_test:
            best_on_test.update(evaluator(model, data.test).metrics)
        return evaluator(model, data.val).metrics

    return validate


def choose_device(cfg: TrainConfig) -> torch.device:
    """``auto`` is the GPU if there is one."""
    name = cfg.trainer.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"trainer.device={name} is no device; accepted: auto, cpu, cuda, cuda:0, ..."
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"trainer.device={name} is not supported; accepted: auto, cpu, cuda, cuda:0, ...")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.device={name}, but torch sees no GPU here: use trainer.device=cpu or auto"
        )
    return device


@contextmanager
def open_loggers(cfg: TrainConfig, folder: Path, *, start: int) -> Iterator[list[Logger]]:
    """Everything that follows the course of a run, closed at the end of the block."""
    loggers: list[Logger] = [HistoryLogger(folder / "history.csv", start=start)]
    if cfg.logger.tensorboard:
        loggers.append(TensorBoardLogger(folder / "tensorboard", start=start))
    loggers.append(ProgressLogger(Console(), start=start, stop=cfg.trainer.max_steps))
    try:
        yield loggers
    finally:
        for logger in loggers:
            logger.close()


def _batches(cfg: TrainConfig, train: Records, sampler: Sampler) -> Callable[[int, int], Iterator[Batch]]:
    transform = build(cfg.transform.train)

    def batches(start: int, stop: int) -> Iterator[Batch]:
        return training_batches(
            train, transform, sampler, seed=cfg.seed, start=start, stop=stop, num_workers=cfg.num_workers
        )

    return batches


def _check_zero_shot(model: EmbeddingModel, objective: Objective, labels: NDArray[np.int64]) -> None:
    if objective.zero_shot is None:
        return
    if not model.pooling.has_attributes:
        raise ConfigError(
            f"zero_shot.weight={objective.zero_shot_weight}: the zero-shot loss reads attributes, and this pooling has "
            "none: choose pooling=gsp, or switch the loss off with zero_shot.weight=0"
        )
    split_by_class(torch.from_numpy(labels))


def _check_evaluator(cfg: TrainConfig) -> None:
    options = cfg.evaluator
    if options.backend not in BACKENDS:
        raise ConfigError(f"evaluator.backend={options.backend}; accepted: {', '.join(BACKENDS)}")
    if options.batch_size < 1:
        raise ConfigError(f"evaluator.batch_size={options.batch_size} must be at least 1")
    if cfg.num_workers < 0:
        raise ConfigError(f"num_workers={cfg.num_workers} must be 0 or above; 0 loads in the main process")
    ranks = list(options.recall_at)
    if not ranks or min(ranks) < 1 or len(set(ranks)) < len(ranks):
        raise ConfigError(f"evaluator.recall_at={ranks}: give one or more different ranks of at least 1")


def _multipliers(cfg: TrainConfig) -> dict[str, float]:
    return cast(dict[str, float], OmegaConf.to_container(cast(DictConfig, cfg.learning_rates)))


def _check_trainer(cfg: TrainConfig) -> None:
    least = {"max_steps": 0, "warmup_steps": 0, "eval_every": 1, "log_every": 1, "initialisation_batches": 1}
    for name, value in least.items():
        if getattr(cfg.trainer, name) < value:
            raise ConfigError(f"trainer.{name}={getattr(cfg.trainer, name)} must be at least {value}")
    clip = cfg.trainer.gradient_clip
    if clip is not None and not 0 < clip < math.inf:
        raise ConfigError(f"trainer.gradient_clip={clip} must be above 0; null leaves the gradient as it is")
    for role, multiplier in _multipliers(cfg).items():
        if not 0 <= multiplier < math.inf:
            raise ConfigError(
                f"learning_rates.{role}={multiplier} must be 0 or above; 0 leaves {role} untrained"
            )
    selectable = [f"recall@{k}" for k in cfg.evaluator.recall_at] + ["r_precision", "map@r"]
    if cfg.trainer.select_by not in selectable:
        raise ConfigError(f"trainer.select_by={cfg.trainer.select_by}; accepted: {', '.join(selectable)}")
