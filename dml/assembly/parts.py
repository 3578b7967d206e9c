"""The data, the model that embeds them, and what measures it."""

from __future__ import annotations

import logging
from functools import partial
from typing import cast

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from dml.backbones import fold_batchnorm
from dml.config import ConfigError, TrainConfig, build, checked
from dml.data import Records, Sampler, Splits, evaluation_batches
from dml.devices import choose_workers, prepare_device
from dml.distributed import is_main
from dml.model import EmbeddingModel
from dml.randomness import torch_seed
from dml.retrieval import Evaluator, choose_backend

__all__ = ["build_data", "build_evaluator", "build_model", "build_sampler"]

log = logging.getLogger(__name__)

NO_WEIGHTS = {"pretrained": False, "checkpoint": None}  # of a backbone, when its weights come from a run


def build_data(cfg: TrainConfig) -> Splits:
    """Read the data set, split its classes by the protocol, and say in the log how much is in each part."""
    splits = cast(Splits, build(cfg.protocol)(build(cfg.dataset)))
    if is_main():
        _log_parts(splits)
    return splits


def _log_parts(splits: Splits) -> None:
    parts = {"train": splits.train, **splits.measured}
    for name, records in parts.items():
        queries = 0 if records.is_query is None else int(records.is_query.sum())
        share = f", {queries:,} of them queries" if queries else ""
        log.info("%s: %s classes, %s images%s", name, f"{records.num_classes:,}", f"{len(records):,}", share)


def build_model(cfg: TrainConfig, *, pretrained: bool = True) -> EmbeddingModel:
    """The model at the start of training; with ``pretrained=False`` no published weights are read.

    Each part is initialised from the seed and its own name, so that two runs that differ in one part start from
    the same weights in all others.
    """
    preprocess = build(cfg.transform.evaluation)
    without = {} if pretrained else {k: v for k, v in NO_WEIGHTS.items() if k in cfg.backbone}
    with torch_seed(cfg.seed, "backbone"):
        backbone = build(cast(DictConfig, OmegaConf.merge(cfg.backbone, without)))
    if hasattr(backbone, "check_size"):  # as a model of timm, which is not imported for any other
        backbone.check_size(cfg.transform.size)
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


def build_sampler(cfg: TrainConfig, train: Records) -> Sampler:
    """What chooses the images of each batch of training."""
    return cast(Sampler, build(cfg.sampler)(train.labels, seed=cfg.seed))


def build_evaluator(cfg: TrainConfig, data: Splits) -> Evaluator:
    """What embeds and measures a set; refuses sets that could not be measured after training."""
    options, device = checked(cfg.evaluator), prepare_device(cfg)
    try:
        choose_backend(options.backend, device)
    except ValueError as error:
        raise ConfigError(f"evaluator.backend={options.backend}: {error}") from error
    batches = partial(
        evaluation_batches,
        transform=build(cfg.transform.evaluation),
        batch_size=options.batch_size,
        num_workers=choose_workers(cfg, device),
    )
    evaluator = Evaluator(batches, recall_at=options.recall_at, backend=options.backend, device=device)
    for name, records in data.measured.items():
        evaluator.check(records, "validation" if records is data.val else name)
    return evaluator
