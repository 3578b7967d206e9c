"""The typed parts of the configuration, each of which checks itself.

An option is a field with its comment: its type, what its value must be, and whether it says only how a run is executed.
Its value stands in configs/, so that a saved configuration that lacks it is known to be not complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar, cast

from omegaconf import OmegaConf

from dml.errors import ConfigError

__all__ = [
    "PRECISIONS",
    "EvaluatorOptions",
    "LearningRates",
    "MemoryOptions",
    "TrainerOptions",
    "ZeroShotOptions",
    "check",
    "checked",
    "option",
]

PRECISIONS = ("fp32", "bf16", "fp16")
"""What a model can compute in."""

T = TypeVar("T")


class Check(NamedTuple):
    """What a value must be: a test of it, null apart, and the rest of the sentence that begins with key and value."""

    fits: Callable[[Any], bool]
    otherwise: str


def at_least(least: int, hint: str = "") -> Check:
    return Check(lambda value: value >= least, f"must be at least {least}{hint}")


def above_zero(hint: str) -> Check:
    return Check(lambda value: 0 < value < math.inf, f"must be above 0; {hint}")


def option(must: Check | None = None, *, execution: bool = False, **default: Any) -> Any:
    """A field of a typed part.

    Args:
        must: what its value must be.
        execution: it changes neither the meaning of a run nor, beyond rounding, its numbers.
        default: as in `dataclasses.field`.
    """
    return field(metadata={"must": must, "execution": execution}, **default)


def check(values: Any, kind: type, prefix: str) -> None:
    """Refuse values that are not what the fields of their class say; those that are open are passed over.

    Args:
        prefix: of their dotted keys.

    Raises:
        ConfigError: a value does not fit; the sentence begins with its dotted key.
    """
    for entry in fields(kind):
        must = entry.metadata.get("must")
        if must is None or (OmegaConf.is_config(values) and OmegaConf.is_missing(values, entry.name)):
            continue
        value = getattr(values, entry.name)
        if value is not None and not must.fits(value):
            raise ConfigError(f"{prefix}{entry.name}={value} {must.otherwise}")


def checked(node: T) -> T:
    """The options that a typed node of the configuration holds, as a value that cannot change.

    Raises:
        ConfigError: a value is out of range.
    """
    return cast(T, OmegaConf.to_object(node))


OFF = "; null switches it off"
DECAY = Check(lambda decay: 0 < decay < 1, f"must lie in (0, 1){OFF}")
SHARE = Check(lambda share: 0 <= share < 1, "must lie in [0, 1); 0 switches the loss off")
RATE = Check(lambda rate: 0 <= rate < math.inf, "must be 0 or above; 0 leaves the part untrained")
PRECISION = Check(PRECISIONS.__contains__, f"is no precision; accepted: {', '.join(PRECISIONS)}")
RANKS = Check(
    lambda ranks: bool(ranks) and min(ranks) >= 1 and len(set(ranks)) == len(ranks),
    "will not do: give one or more different ranks of at least 1",
)


@dataclass(frozen=True)
class TrainerOptions:
    max_steps: int = option(at_least(0))  # 0 evaluates the untrained model
    eval_every: int = option(at_least(1))  # steps between validations
    log_every: int = option(at_least(1), execution=True)  # steps between logged scalars
    save_every: str | None = option(
        execution=True
    )  # between validations, as in SaveTimer; null: at them only
    gradient_clip: float | None = option(above_zero("null leaves the gradient as it is"))  # its largest norm
    frozen_batchnorm: bool = option()  # BatchNorm layers of the backbone keep their statistics and parameters
    frozen_backbone_steps: int = option(at_least(0))  # at the start, in which the backbone gets no update
    initialisation_batches: int = option(at_least(1))  # whose local features initialise the prototypes
    initialisation_locations: int | None = option()  # how many of those features at most; null: all
    select_by: str = option()  # validation metric that chooses best.pt
    patience: int | None = option(at_least(1, OFF))  # validations without a better figure that end the run
    ema: float | None = option(DECAY)  # of a running mean of the weights, which is then validated and kept
    precision: str = option(PRECISION)  # of the model in training; losses and evaluation stay in float32
    micro_batch: int | None = option(at_least(1, OFF), execution=True)  # images in the model at a time
    compile: bool = option(execution=True)  # run the model through torch.compile
    deterministic: bool = option()  # only deterministic algorithms on a GPU too
    tf32: bool = option()  # float32 of 10 bits on a GPU
    device: str = option(execution=True)  # auto, cpu, cuda, cuda:1, ...

    def __post_init__(self) -> None:
        check(self, type(self), "trainer.")
        locations, batches = self.initialisation_locations, self.initialisation_batches
        if locations is not None and locations < batches:
            raise ConfigError(
                f"trainer.initialisation_locations={locations} must be at least "
                f"trainer.initialisation_batches={batches}, one of each batch; null takes all"
            )


@dataclass(frozen=True)
class EvaluatorOptions:
    recall_at: list[int] = option(RANKS)  # the K of Recall@K
    batch_size: int = option(at_least(1), execution=True)  # images in the model at a time
    backend: str = option(execution=True)  # auto, faiss or torch
    classes: int | None = option(at_least(2, "; null measures all"), default=None)  # of each measured part

    def __post_init__(self) -> None:
        check(self, type(self), "evaluator.")


@dataclass(frozen=True)
class MemoryOptions:
    """Past embeddings that pair losses are also computed against."""

    batches: int = option(at_least(0, "; 0 switches the memory off"))  # its size
    start_step: int = option(at_least(0))  # steps before embeddings are kept and used
    weight: float = option(above_zero("memory.batches=0 switches it off"))  # beside the loss of the batch
    own_images: bool = option()  # compare a batch with earlier embeddings of its own images too

    def __post_init__(self) -> None:
        check(self, type(self), "memory.")


@dataclass(frozen=True)
class ZeroShotOptions:
    weight: float = option(SHARE)  # λ
    ridge: float = option(above_zero("published with 0.05"))  # ε of the regression
    scale: float = option(above_zero("published with 9.5"))  # s of the softmax over class codes
    centred: bool = option()  # attributes without their mean, and the ridge in units of what is left
    start: str = option()  # of the class codes: published or scaled
    cosine: bool = option()  # codes and predictions count by their direction alone
    learnable_scale: bool = option()

    def __post_init__(self) -> None:
        check(self, type(self), "zero_shot.")


@dataclass(frozen=True)
class LearningRates:
    """Multipliers of ``optimizer.lr``, one for each kind of parameter."""

    backbone: float = option(RATE)
    head: float = option(RATE)
    prototypes: float = option(RATE)
    proxies: float = option(RATE)
    class_codes: float = option(RATE)

    def __post_init__(self) -> None:
        check(self, type(self), "learning_rates.")
