from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from dml.config import EXECUTION, ConfigError, TrainConfig, check_config, checked
from dml.config.schema import PARTS

Compose = Callable[..., TrainConfig]
OUT_OF_RANGE = {
    "embedding_dim": (0, -1),
    "trainer.max_steps": (-1,),
    "trainer.eval_every": (0,),
    "trainer.log_every": (0,),
    "trainer.gradient_clip": (0, -1, float("inf"), float("nan")),
    "trainer.frozen_backbone_steps": (-1,),
    "trainer.initialisation_batches": (0,),
    "trainer.patience": (0,),
    "trainer.ema": (0, 1, 1.5, float("nan")),
    "trainer.precision": ("fp8", ""),
    "trainer.micro_batch": (0,),
    "evaluator.recall_at": ([], [0], [1, 1]),
    "evaluator.batch_size": (0,),
    "evaluator.classes": (0, 1),
    "memory.batches": (-1,),
    "memory.start_step": (-1,),
    "memory.weight": (0, -1, float("nan")),
    "zero_shot.weight": (-0.1, 1, float("nan")),
    "zero_shot.ridge": (0, float("nan")),
    "zero_shot.scale": (0, float("inf")),
    **{
        f"learning_rates.{role}": (-5, float("inf"))
        for role in ("backbone", "head", "prototypes", "proxies", "class_codes")
    },
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in OUT_OF_RANGE.items() for value in values]
)
def test_a_value_out_of_range_is_refused_in_a_sentence_with_its_key(
    key: str, value: object, compose_smoke: Compose
) -> None:
    cfg: Any = compose_smoke()
    section, _, name = key.rpartition(".")
    (cfg[section] if section else cfg)[name] = value
    with pytest.raises(ConfigError, match=rf"^{key}=.* (must|is no|will not do)"):
        check_config(cfg, "config.yaml")


def test_every_option_that_is_checked_has_a_value_that_is_refused(compose_smoke: Compose) -> None:
    cfg: Any = compose_smoke()
    with_check = {
        f"{part}.{entry.name}"
        for part in PARTS
        for entry in fields(cfg[part]._metadata.object_type)
        if entry.metadata.get("must")
    }
    assert with_check | {"embedding_dim"} == set(OUT_OF_RANGE)


def test_options_that_are_checked_cannot_change(compose_smoke: Compose) -> None:
    options = checked(compose_smoke("trainer.patience=3").trainer)
    assert (options.max_steps, options.patience) == (6, 3)
    with pytest.raises(FrozenInstanceError):
        options.patience = 4  # type: ignore[misc]


def test_how_a_run_is_executed_is_what_it_was_before_fields_said_so() -> None:
    assert sorted(EXECUTION) == [
        "accept_changes",
        "dataset.cache",
        "dataset.cache_folder",
        "dataset.check",
        "evaluator.backend",
        "evaluator.batch_size",
        "format",
        "logger",
        "loss._takes_",
        "num_workers",
        "paths",
        "resume",
        "trainer.compile",
        "trainer.device",
        "trainer.log_every",
        "trainer.micro_batch",
        "trainer.save_every",
        "trust",
    ]
