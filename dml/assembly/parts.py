"""The data, the model that embeds them, and what measures it."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import nn

from dml.backbones import fold_batchnorm
from dml.config import ConfigError, TrainConfig, build, checked, locate
from dml.contracts import Backbone, ChecksSize, ImageStore, Pooling, check_contract
from dml.data import Records, Sampler, Splits, TrainTest, evaluation_batches
from dml.devices import choose_workers, prepare_device
from dml.distributed import is_main
from dml.model import EmbeddingModel
from dml.randomness import torch_seed
from dml.retrieval import Evaluator, Metric, check_metric, choose_backend, introduce

__all__ = [
    "NO_WEIGHTS",
    "build_data",
    "build_evaluator",
    "build_metrics",
    "build_model",
    "build_part",
    "build_sampler",
    "named_parts",
    "read_data",
]

log = logging.getLogger(__name__)

NO_WEIGHTS = {"pretrained": False, "checkpoint": None}  # of a backbone, when its weights come from a run


def build_data(cfg: TrainConfig) -> Splits:
    """Read the data set, split its classes by the protocol, and say in the log how much is in each part."""
    splits = cast(Splits, build(cfg.protocol)(read_data(cfg.dataset)))
    if cfg.evaluator.classes is not None:
        splits = _rehearsed(splits, max(cfg.evaluator.classes, *cfg.evaluator.recall_at))
    if is_main():
        _log_parts(splits)
    return splits


def _rehearsed(splits: Splits, classes: int) -> Splits:
    """The same with no more than the first so many classes of each part that is measured."""
    val, test = splits.val, splits.test
    return splits._replace(
        val=val.select_classes(val.class_names[:classes]),
        test=None if test is None else test.select_classes(test.class_names[:classes]),
    )


def read_data(node: DictConfig) -> TrainTest:
    """The two halves of a data set, as its reader gives them.

    Raises:
        ConfigError: as in `build`, or what it gives is no data set, or its images cannot be asked for by row.
    """
    read, name = build(node), f"dataset={node['_target_']}"
    if not (isinstance(read, tuple) and len(read) == 2 and all(isinstance(half, Records) for half in read)):
        raise ConfigError(
            f"{name} gives {type(read).__name__}: a data set is dml.TrainTest(train, test) of two dml.Records, the "
            "classes of which are disjoint; docs/extending.md has an example"
        )
    for half in read:
        check_contract(half.images, ImageStore, name)
    return TrainTest(*read)


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
        backbone = build_part(cast(DictConfig, OmegaConf.merge(cfg.backbone, without)), Backbone, "backbone")
    if isinstance(backbone, ChecksSize):
        backbone.check_size(cfg.transform.size)
    fold_batchnorm(backbone, cfg.transform.size)
    pooling = _build_pooling(cfg, backbone.out_channels)
    with torch_seed(cfg.seed, "projection"):
        return EmbeddingModel(backbone, pooling, embedding_dim=cfg.embedding_dim, preprocess=preprocess)


def _build_pooling(cfg: TrainConfig, out_channels: int) -> nn.Module:
    """A class says before it is built whether it pools embedded locations; what a function gives is built and asked."""

    def built(channels: int) -> nn.Module:
        with torch_seed(cfg.seed, "pooling"):
            return cast(nn.Module, build_part(cfg.pooling, Pooling, "pooling", in_channels=channels))

    target = locate(cfg.pooling)
    pooling = built(cfg.embedding_dim if getattr(target, "pools_embedded", False) is True else out_channels)
    return built(cfg.embedding_dim) if pooling.pools_embedded and not isinstance(target, type) else pooling


def build_part(node: DictConfig, contract: Any, key: str, **late: Any) -> Any:
    """Build a component, and refuse it in a sentence if it is not what its kind promises.

    Raises:
        ConfigError: as in `build` and in `check_contract`.
    """
    return check_contract(build(node, **late), contract, f"{key}={node['_target_']}")


def build_sampler(cfg: TrainConfig, train: Records) -> Sampler:
    """What chooses the images of each batch of training."""
    return cast(Sampler, build(cfg.sampler)(train.labels, seed=cfg.seed))


def named_parts(node: Any, key: str) -> dict[str, DictConfig]:
    """The components of a group of which several may be chosen, by name, without those that are switched off.

    Raises:
        ConfigError: it holds something else.
    """
    if not OmegaConf.is_dict(node):
        raise ConfigError(
            f"{key}={node} is no choice: give names of configs/{key}/, as in {key}=[NAME,NAME], or none"
        )
    chosen = {str(name): node[name] for name in node if node[name] is not None and node[name] is not False}
    for name, part in chosen.items():
        if not OmegaConf.is_dict(part):
            raise ConfigError(
                f"{key}.{name}={part} is no component: choose by name, as in {key}={name} or {key}=[{name},NAME], or "
                f"switch it off by {key}.{name}=null"
            )
    return chosen


def build_metrics(cfg: TrainConfig) -> dict[str, Metric]:
    """The metrics that were chosen beside those that are always counted, by name.

    Raises:
        ConfigError: as in `build` and in `check_metric`.
    """
    chosen = named_parts(cfg.metric, "metric")
    metrics = {name: check_metric(name, build(node)) for name, node in chosen.items()}
    introduce(metrics)
    return metrics


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
    evaluator = Evaluator(
        batches,
        recall_at=options.recall_at,
        backend=options.backend,
        device=device,
        metrics=build_metrics(cfg),
    )
    for name, records in data.measured.items():
        evaluator.check(records, "validation" if records is data.val else name)
    return evaluator
