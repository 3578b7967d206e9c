"""What each kind of part promises, as types, and the one check that a part keeps it.

A part is whatever its ``_target_`` gives, be that a class or a function that makes one. Nothing here need be inherited:
what has the attributes and takes the arguments is such a part. `dml check` tries the rest, shapes and gradients.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_type_hints, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from dml.errors import ConfigError
from dml.functional.transport import TransportPlan
from dml.types import Normalisation, Pooled

__all__ = [
    "Backbone",
    "ChecksSize",
    "ChoosesStart",
    "DrawsImages",
    "FitsSharpness",
    "FollowedRun",
    "HasPlan",
    "HasPrototypes",
    "ImageStore",
    "Logger",
    "Loss",
    "Pooling",
    "check_contract",
]


class Backbone(Protocol):
    """Normalised images (B, 3, H, W) -> a map (B, C, H', W') or tokens (B, N, C); a `torch.nn.Module`.

    out_channels:  C.
    normalisation: how it wants its images.
    """

    out_channels: int
    normalisation: Normalisation

    def __call__(self, images: Tensor, /) -> Tensor: ...


@runtime_checkable
class ChecksSize(Protocol):
    """A backbone that does not take images of every size."""

    def check_size(self, size: int) -> None:
        """Raise an error of dml.errors that says what is accepted, if squares of this side are not."""


class Pooling(Protocol):
    """A map (B, C, H, W) or tokens (B, N, C) -> `Pooled`; a `torch.nn.Module`, built with ``in_channels``.

    out_channels:   channels of ``vectors``.
    pools_embedded: the locations are embedded before they are pooled, so C is the embedding dimension D, and
                    out_channels too; otherwise the pooled vector is.
    has_attributes: it gives ``attributes``, which the zero-shot loss needs.
    """

    out_channels: int
    pools_embedded: bool
    has_attributes: bool

    def __call__(self, features: Tensor, /) -> Pooled: ...


@runtime_checkable
class HasPrototypes(Protocol):
    """A pooling whose prototypes start from the features of the first batches."""

    def initialise_prototypes(self, features: Tensor, *, generator: Generator) -> int:
        """Place prototypes among features, a map or tokens, and return how many."""


@runtime_checkable
class ChoosesStart(Protocol):
    """A pooling whose prototypes start from one mean for each image if this is ``pooled``."""

    prototype_start: str


@runtime_checkable
class FitsSharpness(Protocol):
    """A pooling with a number that may be fitted to whole images before training, once its prototypes are placed."""

    fits_sharpness: bool

    def fit_sharpness(self, features: Tensor) -> None:
        """Fit it to the features of whole images, a map or tokens."""


@runtime_checkable
class HasPlan(Protocol):
    """A pooling that can say what each of its prototypes receives."""

    def plan(self, features: Tensor) -> TransportPlan:
        """The plan by which the same features are pooled."""


class Loss(Protocol):
    """Unit vectors (B, D) and labels (B,) int64 -> a scalar; a `torch.nn.Module`, whose parameters are the proxies.

    What it takes besides, ``_takes_`` in its YAML says: ``tuples``, as ``indices_tuple``, the pairs or triplets of a
    miner; ``references``, as ``ref_emb`` and ``ref_labels``, those of a memory.
    """

    def __call__(self, vectors: Tensor, labels: Tensor, /) -> Tensor: ...


class ImageStore(Protocol):
    """Decoded images by row: an array, or anything that reads files."""

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        """The image of a row, (H, W, 3) uint8, RGB."""


@runtime_checkable
class DrawsImages(Protocol):
    """A store whose images are drawn anew each time in training."""

    def draw(self, row: int, generator: np.random.Generator) -> NDArray[np.uint8]:
        """The image of a row for one place of a batch, (H, W, 3) uint8, RGB, by this generator alone."""


@dataclass(frozen=True)
class FollowedRun:
    """What a logger is made for.

    folder:  of the run, where it may write files of its own name.
    start:   the step that the run goes on from; what was logged after it is repeated. 0 for a new run.
    config:  the resolved configuration, in plain values.
    watched: gives a few images of the validation set as the model sees them, (n, 3, size, size) uint8, always the same
             ones; None if there are none to look at.
    """

    folder: Path
    start: int
    config: Mapping[str, Any]
    watched: Callable[[], Tensor | None] = lambda: None


class Logger:
    """Is told what happens in a run; what it does not say what to do about, it passes over.

    It is made with ``run``, a `FollowedRun`. A logger that fails costs its log, with a warning, and not the run.
    """

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        """Every step: the total loss and the norm of the gradient before clipping."""

    def training(self, step: int, scalars: Mapping[str, float]) -> None:
        """Losses by term, learning rates, gradient norms, statistics of the pooling."""

    def validation(self, step: int, metrics: Mapping[str, float], model: Any) -> None:
        """Metrics of the validation classes, and the model that they are of, to be looked at and left as it is."""

    def close(self) -> None:
        """The run is over, or leaves here."""


class _Said(NamedTuple):
    """A contract in words, and the method that must be there, with the arguments that it is called with."""

    words: str
    call: str
    arguments: tuple[str, ...]


CONTRACTS: dict[type, _Said] = {
    Backbone: _Said(
        "a backbone is a torch.nn.Module with out_channels (int) and normalisation (dml.Normalisation) that takes "
        "images (B, 3, H, W) and gives a map (B, C, H', W') or tokens (B, N, C)",
        "forward",
        ("images",),
    ),
    Pooling: _Said(
        "a pooling is a torch.nn.Module with out_channels (int), pools_embedded (bool) and has_attributes (bool) that "
        "takes features, a map (B, C, H, W) or tokens (B, N, C), and gives dml.Pooled",
        "forward",
        ("features",),
    ),
    Loss: _Said(
        "a loss is a torch.nn.Module that takes vectors (B, D) and labels (B,) and gives a scalar",
        "forward",
        ("vectors", "labels"),
    ),
    ImageStore: _Said(
        "images are an array (n, H, W, 3) uint8, or have __getitem__(row), which gives one image (H, W, 3) uint8",
        "__getitem__",
        ("row",),
    ),
    Logger: _Said(
        "a logger has step(step, loss, gradient_norm), training(step, scalars), validation(step, metrics, model) and "
        "close(), which dml.Logger has, doing nothing",
        "validation",
        ("step", "metrics", "model"),
    ),
}


def check_contract(part: Any, contract: Any, name: str) -> Any:
    """The part, of which is known now that it is what its kind promises, as far as that shows without running it.

    name: of the part for people, as in ``pooling=mine.MyPooling``.

    Raises:
        ConfigError: an attribute or a method is missing or of another type; the sentence says what is promised.
    """
    said = CONTRACTS[contract]
    if problem := _problem(part, contract, said):
        raise ConfigError(f"{name} {problem}: {said.words}; docs/extending.md has an example")
    return part


def _problem(part: object, contract: type, said: _Said) -> str | None:
    """What is wrong, as the rest of a sentence."""
    if said.call == "forward" and not isinstance(part, nn.Module):
        return f"gives {_kind(part)}, which is no torch.nn.Module"
    for attribute, kind in get_type_hints(contract).items():
        if not hasattr(part, attribute):
            return f"gives {_kind(part)}, which has no {attribute}"
        value = getattr(part, attribute)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            return f"gives {_kind(part)}, whose {attribute} is {value!r} and no {kind.__name__}"
    methods = (
        [name for name in vars(Logger) if not name.startswith("_")] if contract is Logger else [said.call]
    )
    if missing := [name for name in methods if not callable(getattr(part, name, None))]:
        return f"gives {_kind(part)}, which has no {missing[0]}()"
    try:
        inspect.signature(getattr(part, said.call)).bind(*said.arguments)
    except TypeError as error:
        return f"gives {_kind(part)}, whose {said.call}() does not take {', '.join(said.arguments)} ({error})"
    except ValueError:  # a method written in C says nothing of its arguments
        return None
    return None


def _kind(part: object) -> str:
    name = part.__name__ if inspect.isroutine(part) or inspect.isclass(part) else type(part).__name__
    return (
        f"the {'class' if inspect.isclass(part) else 'function'} {name}"
        if name != type(part).__name__
        else name
    )
