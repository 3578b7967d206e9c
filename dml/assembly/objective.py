"""What training minimises: the metric loss, and its miner, its memory and the zero-shot loss unless off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

import torch

from dml.assembly.parts import build_part, build_sampler
from dml.config import ConfigError, TrainConfig, build, checked
from dml.contracts import Loss
from dml.data import Records
from dml.losses import (
    CrossBatchMemory,
    Objective,
    ZeroShotLoss,
    lists_tuples,
)
from dml.randomness import torch_seed

__all__ = ["build_objective", "declared"]


def build_objective(cfg: TrainConfig, train: Records) -> Objective:
    """The objective of a configuration that has been settled."""
    with torch_seed(cfg.seed, "loss"):
        metric = build_part(cfg.loss, Loss, "loss")
    zero_shot, options = None, checked(cfg.zero_shot)
    if options.weight:
        with torch_seed(cfg.seed, "zero_shot"):
            settings = {name: value for name, value in asdict(options).items() if name != "weight"}
            zero_shot = ZeroShotLoss(train.num_classes, cfg.embedding_dim, **settings)
    return Objective(
        metric,
        zero_shot,
        zero_shot_weight=options.weight,
        miner=_build_miner(cfg),
        memory=_build_memory(cfg, train),
        memory_weight=cfg.memory.weight,
    )


def declared(cfg: TrainConfig, what: str) -> bool:
    """Whether the file of the loss says that it takes ``tuples`` or ``references``; silence is no."""
    declared = cfg.loss.get("_takes_", ())
    listed = isinstance(declared, Sequence) and not isinstance(declared, str)
    if not listed or not set(declared) <= {"tuples", "references"}:
        raise ConfigError(f"loss._takes_={declared}; accepted: a list of tuples, references, or both")
    return what in declared


def _if_your_own(cfg: TrainConfig, what: str) -> str:
    """What to do about a loss that says nothing."""
    if "_takes_" in cfg.loss:
        return ""
    return f"; if it does, for all that its file does not say so, add +loss._takes_=[{what}]"


def _build_miner(cfg: TrainConfig) -> torch.nn.Module | None:
    if cfg.miner["_target_"] is None:
        if surplus := sorted(key for key in map(str, cfg.miner) if key != "_target_"):
            raise ConfigError(
                f"miner.{surplus[0]} is given, but miner=none has no such argument: choose a miner too, as in "
                "miner=multi_similarity"
            )
        return None
    miner = cast(torch.nn.Module, build(cfg.miner))
    if not declared(cfg, "tuples"):
        raise ConfigError(
            f"miner={cfg.miner['_target_']}: {cfg.loss['_target_']} is computed on all images alike, not on pairs or "
            "triplets that a miner could choose: take a pair loss such as contrastive, triplet or multi_similarity, "
            f"or miner=none{_if_your_own(cfg, 'tuples')}"
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


def _build_memory(cfg: TrainConfig, train: Records) -> CrossBatchMemory | None:
    options = checked(cfg.memory)
    if options.batches == 0:
        return None
    if not declared(cfg, "references"):
        raise ConfigError(
            f"memory.batches={options.batches}: {cfg.loss['_target_']} compares no pairs with a memory; "
            "choose a pair loss such as contrastive, triplet or multi_similarity, or memory.batches=0"
            f"{_if_your_own(cfg, 'references')}"
        )
    batch_size = len(build_sampler(cfg, train).batch(0))
    return CrossBatchMemory(
        options.batches * batch_size,
        cfg.embedding_dim,
        start_step=options.start_step,
        own_images=options.own_images,
    )
