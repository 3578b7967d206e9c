"""Which parameters learn at which rate, and how the rates change."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from dml.errors import InputError
from dml.losses import Objective
from dml.model import EmbeddingModel

__all__ = [
    "batchnorm_layers",
    "clip_gradient",
    "constant",
    "freeze_batchnorm",
    "one_cycle",
    "parameter_groups",
    "plateau",
    "use_batch_statistics",
    "warn_of_fresh_batchnorm",
]

REHEARSAL = 100  # steps in which nothing could be learned anyway, so that nobody need be warned


def parameter_groups(
    model: EmbeddingModel, objective: Objective, *, lr: float, multipliers: dict[str, float]
) -> list[dict[str, Any]]:
    """Sort every trainable parameter by its role, each role with its own multiple of the learning rate.

    Roles: ``backbone``, ``prototypes`` (of the pooling), ``class_codes`` (of the zero-shot loss), ``proxies``
    (whatever the metric loss learns), ``head`` (all the rest). A multiplier of 0 takes the gradient from a role, which
    keeps its group: nothing is propagated back to it, and it does not count in the norm of the gradient.

    Raises:
        InputError: there is nothing that learns.
    """
    roles: dict[str, list[nn.Parameter]] = {role: [] for role in multipliers}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            roles[_role_in_model(name)].append(parameter)
    for name, parameter in objective.named_parameters():
        roles["class_codes" if name.startswith("zero_shot.") else "proxies"].append(parameter)
    if not any(parameters and multipliers[role] for role, parameters in roles.items()):
        present = ", ".join(f"learning_rates.{role}" for role, parameters in roles.items() if parameters)
        raise InputError(f"nothing would learn: of {present} at least one must be above 0")
    for role, parameters in roles.items():
        if not multipliers[role]:
            for parameter in parameters:
                parameter.requires_grad_(False)
    return [
        {"name": role, "params": parameters, "lr": lr * multipliers[role]}
        for role, parameters in roles.items()
        if parameters
    ]


def _role_in_model(name: str) -> str:
    if name.startswith("backbone."):
        return "backbone"
    return "prototypes" if name == "pooling.prototypes" else "head"


def freeze_batchnorm(backbone: nn.Module) -> None:
    """Keep the running statistics and the affine parameters of every BatchNorm layer as they are.

    To be repeated after each ``model.train()``, which would set the layers back to batch statistics.
    """
    for layer in batchnorm_layers(backbone):
        layer.eval().requires_grad_(False)


def warn_of_fresh_batchnorm(backbone: nn.Module, max_steps: int) -> None:
    """Say that frozen BatchNorm layers do nothing, where none has ever seen an image: a network of random weights.

    A rehearsal is not worth the words.
    """
    layers = [layer for layer in batchnorm_layers(backbone) if layer.running_mean is not None]
    if max_steps > REHEARSAL and layers and all(_is_fresh(layer) for layer in layers):
        warnings.warn(
            f"trainer.frozen_batchnorm=true, but the {len(layers)} BatchNorm layers of this backbone have no "
            "statistics yet: frozen, they normalise nothing. Set trainer.frozen_batchnorm=false to train from random "
            "weights, or take a pretrained backbone",
            stacklevel=2,
        )


def _is_fresh(layer: Any) -> bool:
    return not layer.running_mean.any() and bool((layer.running_var == 1).all())


def use_batch_statistics(model: nn.Module) -> None:
    """Let every BatchNorm layer normalise by the batch, and change its running statistics, as in training."""
    for layer in batchnorm_layers(model):
        layer.train()


def batchnorm_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Every BatchNorm layer, of any dimension."""
    return (layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))


def clip_gradient(optimizer: Optimizer, largest: float | None) -> Tensor:
    """Scale the gradient of all parameters down to a norm, if one is given; returns the norm before."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return clip_grad_norm_(parameters, math.inf if largest is None else largest)


def one_cycle(optimizer: Optimizer, *, total_steps: int, warmup: float, final: float) -> LRScheduler:
    """Rise from 1/25 of each group's rate to it over the share ``warmup`` of the steps, then fall to ``final`` of it.

    Source: Smith and Topin 2018; the momentum is left alone.
    """
    if not 0 <= warmup < 1:
        raise InputError(
            f"scheduler.warmup={warmup}: the share of the steps in which the rates rise lies in [0, 1)"
        )
    if not 0 < final <= 1:
        raise InputError(
            f"scheduler.final={final}: the share of the rates that is left at the end lies in (0, 1]"
        )
    if total_steps < 1:
        return constant(optimizer, total_steps=total_steps)
    if math.isclose(warmup * total_steps, 1):
        warmup *= 1 + 1e-6  # else torch divides by the length 0 of the rise
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=float(warmup),
        div_factor=25.0,
        final_div_factor=1 / (25.0 * final),
        cycle_momentum=False,
    )


def constant(optimizer: Optimizer, *, total_steps: int) -> LRScheduler:
    """Leave the rates as they are."""
    del total_steps
    return LambdaLR(optimizer, lambda step: 1.0)


def plateau(optimizer: Optimizer, *, total_steps: int, factor: float, patience: int) -> ReduceLROnPlateau:
    """Multiply the rates by ``factor`` when the validation figure has not risen for more than ``patience`` validations.

    Raises:
        InputError: a factor that does not lower the rates, or a negative patience.
    """
    del total_steps
    if not 0 < factor < 1:
        raise InputError(f"scheduler.factor={factor}: the rates are multiplied by it; it lies in (0, 1)")
    if patience < 0:
        raise InputError(f"scheduler.patience={patience}: a number of validations is 0 or more")
    return ReduceLROnPlateau(optimizer, mode="max", factor=factor, patience=patience, threshold=0.0)
