"""Every pooling, on maps and on tokens, gives the same from a graph as from the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dml.errors import InputError
from dml.export.certificate import BATCHES, BOUNDS
from dml.export.embed import open_model, run_model
from dml.export.graphs import OUTPUTS, half_precision, trace, write_onnx, write_pt2
from dml.model import EmbeddingModel
from dml.pooling import GlobalAveragePooling
from dml.types import Pooled
from tests.export.models import POOLINGS, SIZE, model_with

ALL = [(name, tokens) for name in POOLINGS for tokens in (False, True)]
QUICK = [("gsp", True)]  # on a map it is that of the run of test_exporting.py


def images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def largest_difference(model: EmbeddingModel, original: EmbeddingModel, folder: Path) -> float:
    """Between the vectors of both graphs of a model and of another one, in every size of batch; outputs are checked."""
    program = trace(model)
    write_onnx(program, folder / "model.onnx", fingerprint="f")
    write_pt2(program, folder / "model.pt2")
    session, graph = open_model(folder / "model.onnx"), torch.export.load(folder / "model.pt2").module()
    assert session.get_inputs()[0].shape == ["batch", 3, SIZE, SIZE]
    worst = 0.0
    for count in BATCHES:
        with torch.no_grad():
            pooled: Pooled = original(images(count))
            by_torch = graph(images(count))
        by_onnx = run_model(session, images(count).numpy())
        expected = {name: getattr(pooled, name) for name in OUTPUTS if getattr(pooled, name) is not None}
        assert list(by_onnx) == list(by_torch) == list(expected)
        for name, value in expected.items():
            assert by_onnx[name].shape == by_torch[name].shape == value.shape
            assert by_onnx[name].dtype == np.float32
        for found in (by_onnx["vectors"], by_torch["vectors"].numpy()):
            worst = max(worst, float(np.abs(found - pooled.vectors.numpy()).max()))
    return worst


@pytest.mark.parametrize(
    ("name", "tokens"), [pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow) for one in ALL]
)
def test_a_pooling_gives_the_same_from_a_graph(name: str, tokens: bool, tmp_path: Path) -> None:
    model = model_with(name, tokens=tokens)
    assert largest_difference(model, model, tmp_path) < BOUNDS["fp32"].difference / 10


def test_all_poolings_are_asked() -> None:
    assert len(ALL) == 2 * len(list(Path("configs/pooling").glob("*.yaml"))) and set(QUICK) < set(ALL)


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", ["learned", "per_image", "standardised"])
def test_each_rule_of_the_sharpness_gives_the_same_from_a_graph(sharpness: str, tmp_path: Path) -> None:
    model = model_with("gsp", sharpness=sharpness)
    assert largest_difference(model, model, tmp_path) < BOUNDS["fp32"].difference / 10


@pytest.mark.slow
def test_the_smallest_ridge_is_solved_without_a_factor_too(tmp_path: Path) -> None:
    model = model_with("generalized_max", ridge=1e-4)
    assert largest_difference(model, model, tmp_path) < BOUNDS["fp32"].difference / 10


def test_a_backbone_in_half_precision_differs_by_that_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = model_with("gap")
    half = half_precision(model)
    difference = (half(images(7)).vectors - model(images(7)).vectors).abs().max().item()
    assert 0 < difference < BOUNDS["fp16"].difference
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


class Impossible(GlobalAveragePooling):
    """Looks at values, which a graph cannot."""

    def forward(self, features: Tensor) -> Pooled:
        return super().forward(features * 2 if features.mean() > 0 else features)


def test_a_part_that_no_graph_can_hold_is_refused_in_a_sentence() -> None:
    model = model_with("gap")
    model.pooling = Impossible(24)
    with pytest.raises(InputError, match=r"cannot be written as a graph: .*write one of your own without"):
        trace(model)
