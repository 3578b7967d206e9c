"""Trials of a model, before it trains, that tell what its random numbers belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dml.modes import evaluation_mode
from dml.randomness import torch_seed
from dml.training.dropout import DropoutNoise, ImageDropout
from dml.training.optimization import batchnorm_layers

__all__ = ["layers_that_draw", "spot_shared_inputs"]


def spot_shared_inputs(model: nn.Module, noise: DropoutNoise, images: Tensor) -> None:
    """Find the dropout whose input is no row of an image, as in tables of positions, and have it draw one mask.

    Its input has as many rows for one image as for two. A model in which nothing drops is not tried.

    images: (2, 3, H, W).
    """
    layers = [layer for layer in model.modules() if isinstance(layer, ImageDropout) and layer.p > 0]
    rows: dict[ImageDropout, list[int]] = {layer: [] for layer in layers if layer.of_images}
    if not rows:
        return
    watching = [
        layer.register_forward_pre_hook(lambda layer, inputs: rows[layer].append(len(inputs[0])))
        for layer in rows
    ]
    with _trial(model, watching):
        for layer in layers:
            layer.eval()
        for count in (1, 2):
            noise.at(0, range(count))
            model(images[:count])
    for dropout, seen in rows.items():
        of_one, of_two = seen[: len(seen) // 2], seen[len(seen) // 2 :]
        dropout.of_images = of_one != of_two or not seen


def layers_that_draw(model: nn.Module, images: Tensor) -> list[str]:
    """The innermost layers that draw from torch's global generators in training, as ``name (Class)``.

    What has moved a generator between the start and the end of a layer, and in no layer inside it, is that layer,
    whatever function it draws in.
    """
    found: list[str] = []
    handles: list[RemovableHandle] = []
    for name, layer in model.named_modules():
        handles += _watch(f"{name or 'model'} ({type(layer).__name__})", layer, found)
    with _trial(model, handles):
        model(images)
    return list(dict.fromkeys(found))


@contextmanager
def _trial(model: nn.Module, handles: list[RemovableHandle]) -> Iterator[None]:
    """Training mode for the block, but for BatchNorm, so that a trial leaves no trace; the hooks end with it."""
    try:
        with evaluation_mode(model), torch_seed(0, "trial"), torch.no_grad():
            model.train()
            for layer in batchnorm_layers(model):
                layer.eval()
            yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(name: str, layer: nn.Module, found: list[str]) -> list[RemovableHandle]:
    """Have a layer put its name into what was found, if it draws."""
    before: list[tuple[Tensor, int]] = []

    def enter(*_: object) -> None:
        before.append((_states(), len(found)))

    def leave(*_: object) -> None:
        states, known = before.pop()
        if len(found) == known and not states.equal(_states()):
            found.append(name)

    return [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]


def _states() -> Tensor:
    """The states of the global generators that a model on this device may draw from."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return torch.cat(states)
