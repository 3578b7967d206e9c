"""The search for the bias: right for all scores, also where it may not look at what it has found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dml.functional import products, transport
from dml.functional.gate import solve_gate

SHAPES = ["normal", "two clusters", "one above", "one below", "near-ties", "ties", "skewed", "equal"]


def draw(shape: str, count: int, ratio: float, seed: int) -> Tensor:
    """Scores (3, N) in float64, of size about 1."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(3, count, generator=generator, dtype=torch.float64)
    if shape == "normal":
        return torch.randn(3, count, generator=generator, dtype=torch.float64)
    if shape == "ties":
        return (scores * 3).floor()
    if shape == "skewed":
        return scores**8
    if shape == "equal":
        return torch.full_like(scores, 0.7)
    scores *= 1e-3
    if shape == "two clusters":  # of which one takes the whole mass, if it comes to a whole number
        scores[:, : max(1, round(count * ratio))] += 1
    if shape in ("one above", "one below"):
        scores[:, seed % count] += 1 if shape == "one above" else -1
    return scores


def bisect(scores: Tensor, ratio: Tensor) -> Tensor:
    """The gates in float64, from 200 halvings."""
    scores = scores.double()
    low, high = scores.amin(1, keepdim=True) - 800, scores.amax(1, keepdim=True) + 800
    for _ in range(200):
        middle = (low + high) / 2
        above = (scores - middle).sigmoid().mean(1, keepdim=True) > ratio
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (scores - low).sigmoid()


@settings(deadline=None, max_examples=300)
@given(
    shape=st.sampled_from(SHAPES),
    count=st.integers(1, 60) | st.sampled_from([196, 1000, 3000]),
    ratio=st.floats(0.01, 0.99) | st.sampled_from([1e-30, 1e-6, 0.1, 0.25, 0.3, 0.5, 1 - 1e-6]),
    log_sharpness=st.floats(-3, 4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
def test_without_looking_the_mass_and_the_gates_are_right_for_any_scores(
    shape: str, count: int, ratio: float, log_sharpness: float, dtype: torch.dtype, seed: int
) -> None:
    scores = (10**log_sharpness * draw(shape, count, ratio, seed)).to(dtype)
    target, rounding = torch.full((1, 1), ratio, dtype=dtype), torch.finfo(dtype).eps
    unseen, seen = (solve_gate(scores, target, may_wait=wait).double() for wait in (False, True))
    exact = target.double()
    missing = (unseen.mean(1, keepdim=True) - exact).abs().max()
    assert missing <= 8 * rounding and missing / exact <= 64 * rounding  # 9.5e-7 in float32
    of_sum, of_scores = 8 * count * rounding, scores.abs().max().item()
    torch.testing.assert_close(unseen, bisect(scores, exact), rtol=0, atol=of_sum + 4e-16 * of_scores)
    torch.testing.assert_close(unseen, seen, rtol=0, atol=of_sum + 2 * rounding * of_scores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-30, 1e8, 1e30])
def test_scores_have_no_limit(dtype: torch.dtype, size: float) -> None:
    scores = (draw("normal", 10, 0.5, 1) * size).to(dtype)
    gate = solve_gate(scores, torch.tensor([[0.3], [0.35], [1.0]], dtype=dtype), may_wait=False)
    assert gate.mean(1).tolist() == pytest.approx([0.3, 0.35, 1.0], abs=1e-7)
    if size > 1:
        ordered = gate.gather(1, scores.argsort(1, descending=True))
        whole = torch.tensor([1.0] * 3 + [0.0] * 7), torch.tensor([1.0] * 3 + [0.5] + [0.0] * 6)
        torch.testing.assert_close(ordered[:2].float(), torch.stack(whole))


@pytest.mark.parametrize("may_wait", [False, True])
def test_where_newton_gets_lost_the_sections_find_the_way(may_wait: bool) -> None:
    scores = torch.cat([-1e6 * draw("normal", 49, 0.3, seed) for seed in range(20)])
    ratio = torch.full((1, 1), 0.99, dtype=torch.float64)
    gate = solve_gate(scores, ratio, may_wait=may_wait)
    assert (gate.mean(1) - 0.99).abs().max() <= 1e-13


@pytest.mark.parametrize("may_wait", [False, True])
def test_a_score_that_is_no_number_spoils_its_image_alone(may_wait: bool) -> None:
    scores = draw("normal", 9, 0.3, 0)
    scores[1, 2] = torch.nan
    gate = solve_gate(scores, torch.full((1, 1), 0.3, dtype=torch.float64), may_wait=may_wait)
    assert gate[1].isnan().all() and gate[::2].mean(1).tolist() == pytest.approx([0.3, 0.3])


class OperatorCount(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_done_without_looking_does_not_depend_on_the_scores(dtype: torch.dtype) -> None:
    counts = set()
    for size in (1e-3, 5.0, 1e30):
        with OperatorCount() as operators:
            solve_gate(
                (draw("skewed", 49, 0.3, 0) * size).to(dtype),
                torch.full((1, 1), 0.3, dtype=dtype),
                may_wait=False,
            )
        counts.add(operators.count)
    assert len(counts) == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_an_accelerator_nothing_is_read_back(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "eager_cpu", lambda tensor: False)
    with FakeTensorMode():  # a fake tensor has no value, so to read it is an error
        features = torch.rand(2, 8, 9, device=device, requires_grad=True)
        prototypes = torch.rand(4, 8, device=device, requires_grad=True)
        ratio = torch.full((), 0.3, device=device, requires_grad=True)
        pooled = transport.transport_pool(features, prototypes, ratio=ratio, sharpness=5.0)
        assert {tensor.device.type for tensor in pooled} == {device}
        if device == "cpu":  # without a driver torch has no backward pass on a fake GPU
            sum(tensor.square().sum() for tensor in pooled).backward()
            assert features.grad is not None and ratio.grad is not None
