"""Any model of timm, by name, as a feature map or as tokens."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from dml.backbones.weights import load_exactly
from dml.errors import InputError, MissingFileError, UnavailableError
from dml.modes import evaluation_mode
from dml.types import Normalisation

__all__ = ["Timm"]


class Timm(nn.Module):
    """A timm model up to its last feature map or tokens, with the normalisation of its weights.

    Class, distillation and register tokens are dropped, and maps with channels last are transposed.
    Parameters which the features do not depend on (the norm of a removed head) are frozen, since
    distributed training stops at parameters that get no gradient.

    model:      a name of `timm.list_models()`, or of `timm.list_pretrained()` to choose among weights.
    pretrained: download the weights of that name; without effect if there is a `checkpoint`.
    img_size:   input size in pixels, for models that are built for one size; None for the usual one.
                Vision transformers that can resize their position embeddings take any size either way.
    checkpoint: file of weights under timm's names, with or without classifier; None for no file.
    forward:    (B, 3, H, W), normalised -> (B, C, H', W') or (B, N, C) with C = out_channels.
    Raises InputError for a name, an option, a file or a size of images that does not fit, MissingFileError
    if the file is not there, UnavailableError if weights cannot be had.
    Source: Wightman, "PyTorch Image Models", 2019.
    """

    def __init__(self, model: str, *, pretrained: bool, img_size: int | None, checkpoint: str | None) -> None:
        super().__init__()
        self.network = _create(model, pretrained=pretrained and checkpoint is None, img_size=img_size)
        if checkpoint is not None:
            _load(self.network, Path(checkpoint))
        published = self.network.pretrained_cfg
        self.normalisation = Normalisation(_to_255(published["mean"]), _to_255(published["std"]))
        self.out_channels: int = self.network.num_features
        # VOLO has a class token and does not count it.
        class_tokens = int(hasattr(self.network, "cls_token"))
        self._prefix_tokens: int = getattr(self.network, "num_prefix_tokens", class_tokens)
        self._model = model
        self._size: tuple[int, int] = (img_size, img_size) if img_size else tuple(published["input_size"][1:])
        features = self.network.eval().forward_features(torch.zeros(1, 3, *self._size))
        self._layout = _layout(features, model, self.out_channels, self._prefix_tokens)
        _freeze_unused(self.network, features)
        self.network.train()

    def forward(self, images: Tensor) -> Tensor:
        features = self._features(images)
        if self._layout == "BNC":
            return features[:, self._prefix_tokens :]
        return features.permute(0, 3, 1, 2) if self._layout == "BHWC" else features

    def check_size(self, size: int) -> None:
        """Raise InputError if it does not take images of size × size, which is found out by trying."""
        if (size, size) != self._size and not any(parameter.is_meta for parameter in self.parameters()):
            with torch.no_grad(), evaluation_mode(self):
                self(torch.zeros(1, 3, size, size))

    def _features(self, images: Tensor) -> Tensor:
        size = tuple(images.shape[2:])
        if size == self._size or torch.compiler.is_compiling():
            return cast(Tensor, self.network.forward_features(images))
        try:
            return cast(Tensor, self.network.forward_features(images))
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            (height, width), (built, built_width) = size, self._size
            reason = str(error).rstrip(".")
            raise InputError(
                f"{self._model} was built for images of {built} × {built_width} pixels and does not take "
                f"{height} × {width} ({reason}): give transform.size={built}, or, if it can be built for another size, "
                f"backbone.img_size={height} beside backbone.model={self._model}"
            ) from error


def _create(model: str, *, pretrained: bool, img_size: int | None) -> Any:
    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=5, cutoff=0.5)
        hint = f"; close to it: {', '.join(close)}" if close else ""
        raise InputError(f"timm has no model {model!r}{hint}. timm.list_models() lists all.")
    sizes: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
    for options in (sizes | {"dynamic_img_size": True}, sizes):
        try:
            return timm.create_model(model, pretrained=pretrained, num_classes=0, **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
        except Exception as error:
            if not pretrained:
                raise
            raise UnavailableError(
                f"could not get the pretrained weights of {model!r}: {error}. Without a network, set "
                "backbone.checkpoint to a file with them, or backbone.pretrained=false for random weights."
            ) from error
    raise InputError(f"{model!r} has no fixed input size: leave out backbone.img_size={img_size}.")


def _load(network: Any, path: Path) -> None:
    """Read the file as timm reads its own: older layouts are converted, positions resized."""
    if not path.is_file():
        raise MissingFileError(f"backbone.checkpoint={path} is not a file: give one with timm's weights.")
    tensors = load_state_dict(str(path), weights_only=True)
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        tensors = convert(tensors, network)
    classifier = network.pretrained_cfg["classifier"]
    heads = [classifier] if isinstance(classifier, str) else classifier
    body = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in heads}
    load_exactly(network, body, source=path)


def _layout(features: object, model: str, channels: int, prefix_tokens: int) -> str:
    """The order of the axes, in the letters of `dml.types`."""
    if isinstance(features, Tensor):
        if features.ndim == 3 and features.shape[2] == channels and features.shape[1] > prefix_tokens + 1:
            return "BNC"
        if features.ndim == 4 and channels in (features.shape[1], features.shape[3]):
            return "BCHW" if features.shape[1] == channels else "BHWC"
    found = f"a tensor {tuple(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
    raise InputError(
        f"timm's {model!r} gives {found}: neither one map nor one set of tokens with {channels} channels. "
        "Choose another model."
    )


def _freeze_unused(network: nn.Module, features: Tensor) -> None:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def _to_255(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = (255 * value for value in values)
    return red, green, blue
