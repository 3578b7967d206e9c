"""Balanced transport against the textbook iteration, its marginals, limits, gradients and extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dml.functional.sinkhorn import balanced_transport


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def textbook(cost: Tensor, sharpness: float, iterations: int) -> np.ndarray:
    """Sinkhorn's scaling of one matrix, by loops: K = exp(−γ c), u = a / (K v), v = b / (Kᵀ u)."""
    kernel = np.exp(-sharpness * cost.numpy())
    rows, columns = kernel.shape
    u, v = np.ones(rows), np.ones(columns)
    for _ in range(iterations):
        for i in range(rows):
            u[i] = (1 / rows) / sum(kernel[i, j] * v[j] for j in range(columns))
        for j in range(columns):
            v[j] = (1 / columns) / sum(kernel[i, j] * u[i] for i in range(rows))
    return u[:, None] * kernel * v


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_every_iteration_is_that_of_the_textbook(iterations: int) -> None:
    cost = uniform(2, 7, 4)
    plan = balanced_transport(cost, sharpness=5.0, iterations=iterations).numpy()
    for image in range(2):
        np.testing.assert_allclose(plan[image], textbook(cost[image], 5.0, iterations), rtol=1e-10)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 8), st.floats(0.01, 100), st.integers(0, 9))
def test_references_get_equal_mass_after_any_number_of_iterations(
    batch: int, locations: int, references: int, sharpness: float, seed: int
) -> None:
    cost = uniform(batch, locations, references, seed=seed)
    plan = balanced_transport(cost, sharpness=sharpness, iterations=1 + seed)
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(1), torch.full_like(plan[:, 0], 1 / references))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 9))
def test_locations_give_equal_mass_in_the_limit(locations: int, references: int, seed: int) -> None:
    plan = balanced_transport(uniform(2, locations, references, seed=seed), sharpness=5.0, iterations=500)
    torch.testing.assert_close(plan.sum(2), torch.full_like(plan[:, :, 0], 1 / locations))


def test_no_other_plan_with_these_marginals_is_cheaper() -> None:
    cost, sharpness = uniform(1, 6, 4)[0], 5.0
    plan = balanced_transport(cost[None], sharpness=sharpness, iterations=1000)[0]

    def objective(plan: Tensor) -> float:
        return float((cost * plan).sum() + (plan * plan.log()).sum() / sharpness)

    for seed in range(20):
        change = uniform(6, 4, seed=seed)
        change = change - change.mean(0) - change.mean(1, keepdim=True) + change.mean()  # keeps the marginals
        assert objective(plan + plan.min() / change.abs().max() / 2 * change) > objective(plan)


def test_vanishing_sharpness_spreads_everything_and_a_large_one_solves_the_assignment_problem() -> None:
    cost = uniform(1, 5, 5, seed=1)
    spread = balanced_transport(cost, sharpness=1e-9, iterations=1)
    torch.testing.assert_close(spread, torch.full_like(cost, 1 / 25))
    rows, columns = linear_sum_assignment(cost[0].numpy())
    expected = torch.zeros_like(cost)
    expected[0, rows, columns] = 1 / 5
    torch.testing.assert_close(
        balanced_transport(cost, sharpness=300.0, iterations=2000), expected, atol=1e-3, rtol=0
    )


def test_a_constant_added_to_all_costs_of_a_location_changes_nothing() -> None:
    cost = uniform(2, 7, 4)
    plans = [balanced_transport(c, sharpness=5.0, iterations=3) for c in (cost, cost + uniform(2, 7, 1))]
    torch.testing.assert_close(*plans)


def test_gradients_are_exact_in_float64() -> None:
    cost = uniform(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: balanced_transport(c, sharpness=5.0, iterations=4), cost)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e4])
def test_values_and_gradients_stay_finite_in_float32(scale: float) -> None:
    cost = (scale * uniform(2, 7, 4)).float().requires_grad_()
    plan = balanced_transport(cost, sharpness=1.0, iterations=20)
    (plan * uniform(2, 7, 4, seed=1).float()).sum().backward()
    assert plan.isfinite().all() and cost.grad.isfinite().all()
    torch.testing.assert_close(plan.sum(1), torch.full((2, 4), 1 / 4), rtol=1e-2, atol=0)


def test_inside_autocast_the_plan_is_that_of_float32() -> None:
    cost = uniform(2, 7, 4).bfloat16()
    expected = balanced_transport(cost.float(), sharpness=5.0, iterations=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert balanced_transport(cost, sharpness=5.0, iterations=5).equal(expected)


@pytest.mark.parametrize("shape", [(7, 4), (2, 0, 4), (2, 7, 0)])
def test_a_cost_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"cost has shape .*expected \(batch, locations, references\)"):
        balanced_transport(torch.zeros(shape), sharpness=5.0, iterations=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sharpness": 0.0}, "sharpness=0.0: give a finite number above 0"),
        ({"sharpness": float("inf")}, "sharpness=inf: give a finite number above 0"),
        ({"sharpness": float("nan")}, "sharpness=nan: give a finite number above 0"),
        ({"iterations": 0}, "iterations=0: give 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        balanced_transport(uniform(1, 2, 2), **{"sharpness": 5.0, "iterations": 5, **changes})
