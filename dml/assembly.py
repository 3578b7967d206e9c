"""From a configuration to finished parts. Everything that can be refused is refused here, before anything runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor
from torch.optim import Optimizer

from dml.backbones import fold_batchnorm
from dml.config import ConfigError, TrainConfig, build, late_values, to_plain
from dml.data import Records, Sampler, Splits, evaluation_batches, training_batches
from dml.devices import choose_device, choose_workers, prepare_device
from dml.distributed import is_main, world_size
from dml.environment import describe_environment
from dml.losses import (
    CrossBatchMemory,
    Objective,
    ZeroShotLoss,
    compares_with_references,
    lists_tuples,
    split_by_class,
    takes_mined_tuples,
)
from dml.model import EmbeddingModel
from dml.randomness import torch_seed
from dml.retrieval import Evaluator, RetrievalMetrics, choose_backend
from dml.run_folder import RunFolder
from dml.training import (
    PRECISIONS,
    BestOnTest,
    HistoryLogger,
    Logger,
    ProgressLogger,
    StepLogger,
    TensorBoardLogger,
    Trainer,
    Validation,
    batchnorm_layers,
    freeze_batchnorm,
    parameter_groups,
)
from dml.types import Batch

__all__ = [
    "build_data",
    "build_evaluator",
    "build_model",
    "build_objective",
    "build_trainer",
    "environment_of",
    "open_loggers",
]


log = logging.getLogger(__name__)

WATCHED = 6  # images in which TensorBoard shows what the pooling looks at
NO_WEIGHTS = {"pretrained": False, "checkpoint": None}  # of a backbone, when its weights come from a run


def build_data(cfg: TrainConfig) -> Splits:
    """Read the data set, split its classes by the protocol, and say in the log how much is in each part."""
    splits = cast(Splits, build(cfg.protocol)(build(cfg.dataset)))
    if is_main():
        _log_parts(splits)
    return splits


def _log_parts(splits: Splits) -> None:
    parts = {"train": splits.train, splits.val_name: splits.val, "test": splits.test}
    for name, records in parts.items():
        queries = 0 if records.is_query is None else int(records.is_query.sum())
        share = f", {queries:,} of them queries" if queries else ""
        log.info("%s: %s classes, %s images%s", name, f"{records.num_classes:,}", f"{len(records):,}", share)


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
    fold_batchnorm(backbone, cfg.transform.size)
    with torch_seed(cfg.seed, "pooling"):
        pooling = _build_pooling(cfg, backbone.out_channels)
    with torch_seed(cfg.seed, "projection"):
        return EmbeddingModel(backbone, pooling, embedding_dim=cfg.embedding_dim, preprocess=preprocess)


def _build_pooling(cfg: TrainConfig, out_channels: int) -> torch.nn.Module:
    before = getattr(hydra.utils.get_class(cfg.pooling["_target_"]), "pools_embedded", False)
    return cast(
        torch.nn.Module, build(cfg.pooling, in_channels=cfg.embedding_dim if before else out_channels)
    )


def build_objective(cfg: TrainConfig, train: Records) -> Objective:
    """The metric loss, and its miner, its memory and the zero-shot loss unless off.

    Fills what the loss leaves open in ``cfg``.
    """
    num_classes = train.num_classes
    late_values(cfg.loss, num_classes=num_classes, embedding_size=cfg.embedding_dim)
    with torch_seed(cfg.seed, "loss"):
        metric = build(cfg.loss)
    zero_shot, options = None, cfg.zero_shot
    if options.weight:
        with torch_seed(cfg.seed, "zero_shot"):
            zero_shot = ZeroShotLoss(num_classes, cfg.embedding_dim, ridge=options.ridge, scale=options.scale)
    return Objective(
        metric,
        zero_shot,
        zero_shot_weight=options.weight,
        miner=_build_miner(cfg, metric),
        memory=_build_memory(cfg, metric, train),
        memory_weight=cfg.memory.weight,
    )


def _build_miner(cfg: TrainConfig, metric: torch.nn.Module) -> torch.nn.Module | None:
    if cfg.miner["_target_"] is None:
        if surplus := sorted(key for key in map(str, cfg.miner) if key != "_target_"):
            raise ConfigError(
                f"miner.{surplus[0]} is given, but miner=none has no such argument: choose a miner too, as in "
                "miner=multi_similarity"
            )
        return None
    miner = cast(torch.nn.Module, build(cfg.miner))
    if not takes_mined_tuples(metric, cfg.embedding_dim):
        raise ConfigError(
            f"miner={cfg.miner['_target_']}: {cfg.loss['_target_']} is computed on all images alike, not on pairs or "
            "triplets that a miner could choose: take a pair loss such as contrastive, triplet or multi_similarity, "
            "or miner=none"
        )
    _try_miner(cfg, miner)
    return miner


def _try_miner(cfg: TrainConfig, miner: torch.nn.Module) -> None:
    """Refuse numbers with which a miner would fail at its first batch, or never list anything."""
    try:
        with torch_seed(cfg.seed, "miner"):
            lists = lists_tuples(miner, cfg.embedding_dim)
    except Exception as error:  # assertions and errors of indexing and drawing alike
        raise ConfigError(f"miner={cfg.miner['_target_']} fails with these numbers: {error}") from error
    if not lists:
        raise ConfigError(
            f"miner={cfg.miner['_target_']} lists nothing, whatever the distances in a batch, so nothing would be "
            "learned: check its numbers against those in configs/miner/"
        )


def _build_memory(cfg: TrainConfig, metric: torch.nn.Module, train: Records) -> CrossBatchMemory | None:
    options = cfg.memory
    if options.batches == 0:
        return None
    if options.batches < 0:
        raise ConfigError(f"memory.batches={options.batches} must be 0 or more; 0 switches the memory off")
    if not compares_with_references(metric, cfg.embedding_dim):
        raise ConfigError(
            f"memory.batches={options.batches}: {cfg.loss['_target_']} compares no pairs with a memory; "
            "choose a pair loss such as contrastive, triplet or multi_similarity, or memory.batches=0"
        )
    batch_size = len(_build_sampler(cfg, train).batch(0))
    return CrossBatchMemory(options.batches * batch_size, cfg.embedding_dim, start_step=options.start_step)


def _build_sampler(cfg: TrainConfig, train: Records) -> Sampler:
    return cast(Sampler, build(cfg.sampler)(train.labels, seed=cfg.seed))


def build_evaluator(cfg: TrainConfig, data: Splits) -> Evaluator:
    """What embeds and measures a set; refuses sets that could not be measured after training."""
    device = prepare_device(cfg)
    batches = partial(
        evaluation_batches,
        transform=build(cfg.transform.evaluation),
        batch_size=cfg.evaluator.batch_size,
        num_workers=choose_workers(cfg, device),
    )
    options = cfg.evaluator
    _check_evaluator(cfg)
    evaluator = Evaluator(batches, recall_at=options.recall_at, backend=options.backend, device=device)
    evaluator.check(data.val, "validation")
    evaluator.check(data.test, "test")
    return evaluator


def build_trainer(
    cfg: TrainConfig,
    model: EmbeddingModel,
    objective: Objective,
    data: Splits,
    evaluator: Evaluator,
    run: RunFolder,
) -> Trainer:
    """The loop, its optimizer and scheduler, with model and objective moved to the device."""
    _check_trainer(cfg)
    sampler = _build_sampler(cfg, data.train)
    first = sampler.batch(0)
    _check_zero_shot(model, objective, data.train.labels[first])
    device = prepare_device(cfg)
    _check_shares(cfg, model, len(first))
    model.to(device), objective.to(device)
    if cfg.trainer.frozen_batchnorm:
        freeze_batchnorm(model.backbone)
    groups = parameter_groups(model, objective, lr=cfg.optimizer.lr, multipliers=_multipliers(cfg))
    _check_warmup(cfg, groups)
    optimizer = _build_optimizer(cfg, groups)
    scheduler = build(cfg.scheduler)(optimizer, total_steps=cfg.trainer.max_steps)
    options = {str(name): value for name, value in cast(DictConfig, cfg.trainer).items()}
    del options["device"], options["deterministic"], options["tf32"]
    trainer = Trainer(
        model,
        objective,
        optimizer,
        scheduler,
        batches=_batches(cfg, data.train, sampler, choose_workers(cfg, device)),
        validate=_validation(cfg, evaluator, data, run),
        run=run,
        seed=cfg.seed,
        device=device,
        record={"config": to_plain(cfg), "environment": environment_of(cfg)},
        val_chooses=data.val_chooses,
        **options,
    )
    _learn_draws(cfg, trainer)
    return trainer


def _check_warmup(cfg: TrainConfig, groups: list[dict[str, Any]]) -> None:
    others = [p for group in groups if group["name"] != "backbone" for p in group["params"]]
    if cfg.trainer.warmup_steps and not any(parameter.requires_grad for parameter in others):
        raise ConfigError(
            f"trainer.warmup_steps={cfg.trainer.warmup_steps}: the backbone rests, and nothing else learns: give "
            "trainer.warmup_steps=0, or a rate in learning_rates to the head"
        )


def _build_optimizer(cfg: TrainConfig, groups: list[dict[str, Any]]) -> Optimizer:
    try:
        return cast(Optimizer, build(cfg.optimizer)(groups))
    except ValueError as error:  # that of the library names no key
        raise ConfigError(f"optimizer={cfg.optimizer['_target_']}: {error}; check its values") from error


def _validation(cfg: TrainConfig, evaluator: Evaluator, data: Splits, run: RunFolder) -> Validation:
    best_on_test = BestOnTest(run, select_by=cfg.trainer.select_by)

    def validate(model: EmbeddingModel) -> RetrievalMetrics:
        if data.follow_test:
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


@contextmanager
def open_loggers(
    cfg: TrainConfig, run: RunFolder, *, start: int, watched: Records | None = None
) -> Iterator[list[Logger]]:
    """Everything that follows the course of a run, closed at the end of the block; the main process has it.

    watched: the set of which TensorBoard shows what the pooling looks at, in a few images; None for none.
    """
    if not is_main():
        yield []
        return
    loggers: list[Logger] = [
        HistoryLogger(run.history, start=start),
        StepLogger(run.steps, start=start),
    ]
    if cfg.logger.tensorboard:
        images = None if watched is None else _spread_images(cfg, watched)
        loggers.append(TensorBoardLogger(run.tensorboard, start=start, images=images))
    loggers.append(ProgressLogger(Console(), start=start, stop=cfg.trainer.max_steps))
    try:
        yield loggers
    finally:
        for logger in loggers:
            logger.close()


def _spread_images(cfg: TrainConfig, records: Records) -> Tensor:
    """Images at equal distances in a set, always the same ones, as the model sees them: (n, 3, size, size)."""
    transform, count = build(cfg.transform.evaluation), min(WATCHED, len(records))
    return torch.stack([transform(records.image(i * len(records) // count)) for i in range(count)])


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


def _check_evaluator(cfg: TrainConfig) -> None:
    options = cfg.evaluator
    try:
        choose_backend(options.backend, choose_device(cfg))
    except ValueError as error:
        raise ConfigError(f"evaluator.backend={options.backend}: {error}") from error
    if options.batch_size < 1:
        raise ConfigError(f"evaluator.batch_size={options.batch_size} must be at least 1")
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
    locations, batches = cfg.trainer.initialisation_locations, cfg.trainer.initialisation_batches
    if locations is not None and locations < batches:
        raise ConfigError(
            f"trainer.initialisation_locations={locations} must be at least trainer.initialisation_batches={batches}, "
            "one of each batch; null takes all"
        )
    for name in ("patience", "micro_batch"):
        value = getattr(cfg.trainer, name)
        if value is not None and value < 1:
            raise ConfigError(f"trainer.{name}={value} must be at least 1; null switches it off")
    if cfg.trainer.ema is not None and not 0 < cfg.trainer.ema < 1:
        raise ConfigError(f"trainer.ema={cfg.trainer.ema} must lie in (0, 1); null switches it off")
    if cfg.trainer.precision not in PRECISIONS:
        raise ConfigError(f"trainer.precision={cfg.trainer.precision}; accepted: {', '.join(PRECISIONS)}")
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
