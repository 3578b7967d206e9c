"""A model as a graph that runs without this framework: model.pt2 of torch, and model.onnx.

Generalized sum pooling goes into it by its plain formula: `dml.functional.gate` searches the bias of the gates in a
fixed number of sections and Newton steps wherever a graph is made.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dml.errors import InputError
from dml.model import EmbeddingModel
from dml.types import Pooled

__all__ = ["OUTPUTS", "half_precision", "trace", "write_onnx", "write_pt2"]

OUTPUTS = ("vectors", "weights", "attributes")
"""Their names, and their order; a pooling without prototypes has no attributes."""


class _Named(nn.Module):
    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pooled: Pooled = self.model(images)
        found = {name: getattr(pooled, name) for name in OUTPUTS}
        return {name: value.float() for name, value in found.items() if value is not None}


class _HalfBackbone(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.half()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images.half())
        return features.float()


def half_precision(model: EmbeddingModel) -> EmbeddingModel:
    """A copy whose backbone computes in float16; what follows it stays in float32, which weights need."""
    model = copy.deepcopy(model)
    model.backbone = _HalfBackbone(model.backbone)
    return model


@torch.no_grad()
def trace(model: EmbeddingModel) -> ExportedProgram:
    """The graph from ``images`` (B, 3, size, size) uint8 to what OUTPUTS names, for any B.

    model: in evaluation mode, on the CPU.

    Raises:
        InputError: a part of the model, of somebody's own, does something that no graph can hold.
    """
    images = torch.zeros(2, 3, model.preprocess.size, model.preprocess.size, dtype=torch.uint8)  # type: ignore[attr-defined]
    with _quietly("a graph"):
        return torch.export.export(_Named(model), (images,), dynamic_shapes=_dynamic_shapes(), strict=False)


def _dynamic_shapes() -> dict[str, Any]:
    return {"images": {0: Dim("batch", min=1)}}


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a graph as torch.export.load reads it."""
    with _quietly("a graph"):
        torch.export.save(program, path)


@torch.no_grad()
def write_onnx(program: ExportedProgram, path: Path, *, fingerprint: str) -> None:
    """Write a graph as ONNX, in one file that knows the fingerprint of its model.

    Raises:
        InputError: a part of the model, of somebody's own, needs an operation that ONNX has not.
    """
    from onnxscript import optimizer

    names = [name for name in OUTPUTS if name in program.call_spec.out_spec.context]
    with _quietly("ONNX"):
        if any(node.target in DECOMPOSITIONS for node in program.graph.nodes):
            program = program.run_decompositions(DECOMPOSITIONS)
        graph = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=names,
            dynamic_shapes={"images": {0: "batch"}},  # for its name
        )
        assert graph is not None
        optimizer.fold_constants(
            graph.model, **WITHOUT_LIMIT
        )  # a BatchNorm in its convolution is a constant weight
        optimizer.remove_unused_nodes(graph.model)
        graph.model.metadata_props["fingerprint"] = fingerprint
        graph.save(path, external_data=False)


@contextmanager
def _quietly(form: str) -> Iterator[None]:
    """Without the warnings of torch about itself, and with a sentence instead of its report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:  # torch raises many kinds
            reason = str(error.__cause__ or error).strip().splitlines()[:1]
            raise InputError(
                f"this model cannot be written as {form}: {' '.join(reason)}. Parts of this framework can; write "
                "one of your own without loops over images, conditions on values and operations that are rare"
            ) from error


def _inverse(matrix: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """The inverse of positive definite matrices (B, N, N), where a factor was asked for; see DECOMPOSITIONS.

    Newton's X ← X (2 − A X) from X = 1 / trace A: the error is squared each time, so that condition numbers up to
    2²⁷ / N come to a rounding.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = identity / (matrix * identity).sum((-2, -1), keepdim=True)
    for _ in range(NEWTON_STEPS):
        inverse = inverse @ (2 * identity - matrix @ inverse)
    return inverse, torch.zeros(matrix.shape[:-2], dtype=torch.int32, device=matrix.device)


def _by_inverse(values: Tensor, inverse: Tensor, upper: bool = False) -> Tensor:
    return inverse @ values


WITHOUT_LIMIT: dict[str, Any] = {
    "onnx_shape_inference": False,
    "input_size_limit": 2**62,
    "output_size_limit": 2**62,
}
NEWTON_STEPS = 32
DECOMPOSITIONS: dict[Any, Any] = {
    torch.ops.aten.linalg_cholesky_ex.default: _inverse,
    torch.ops.aten.cholesky_solve.default: _by_inverse,
}
"""What takes the place of operations that ONNX has not, and only as a pair: instead of a Cholesky factor the inverse
passes between them. Unrolled, a factor would be 26 operations a location."""
