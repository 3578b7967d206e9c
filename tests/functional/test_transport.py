"""The transport problem against a slow fixed point, its limits and gradients, and the fused pooling."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dml.functional.transport import (
    calibrated_gate,
    partial_transport,
    project_to_ball,
    prototype_cost,
    transport_pool,
)

RATIOS = [0.01, 0.3, 0.5, 0.8, 0.99]
SHARPNESSES = [1e-3, 0.5, 5.0, 100.0, 1e4]


def uniform(*shape: int, seed: int = 0, high: float = 2.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return (
        torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
        * high
    )


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def fixed_point(cost: Tensor, ratio: Tensor | float, sharpness: float, rounds: int) -> tuple[Tensor, Tensor]:
    """The paper's proposition 4.2, word for word, under autograd: scale columns, then the total mass."""
    kernel, count = torch.exp(-sharpness * cost), cost.shape[1]
    scale = torch.ones(len(cost), 1, dtype=cost.dtype)
    for _ in range(rounds):
        residual = 1 / (count * (1 + scale * kernel.sum(2)))
        scale = ratio / (kernel * residual.unsqueeze(2)).sum((1, 2)).unsqueeze(1)
    residual = 1 / (count * (1 + scale * kernel.sum(2)))
    return (residual * scale).unsqueeze(2) * kernel, residual


def reference_pool(
    features: Tensor, prototypes: Tensor, ratio: float | Tensor, sharpness: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition of the pooling from the pure functions; features (B, D, N)."""
    result = partial_transport(prototype_cost(features.mT, prototypes), ratio=ratio, sharpness=sharpness)
    column = torch.as_tensor(ratio).reshape(-1, 1)
    shares = result.gate / (features.shape[2] * column)
    return torch.einsum("bn,bdn->bd", shares, features), result.plan.sum(1) / column, shares


# The problem


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("sharpness", [0.5, 5.0, 20.0])
def test_plan_residual_and_gradients_agree_with_a_converged_fixed_point(
    ratio: float, sharpness: float
) -> None:
    cost = uniform(3, 9, 4).requires_grad_()
    mu = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    slow = fixed_point(cost, mu, sharpness, rounds=4000)
    fast = partial_transport(cost, ratio=mu, sharpness=sharpness)
    upstream = [normal(3, 9, 4, seed=1), normal(3, 9, seed=2)]
    torch.testing.assert_close((fast.plan, fast.residual), slow, rtol=0, atol=1e-6)
    expected = torch.autograd.grad(slow, (cost, mu), upstream)
    actual = torch.autograd.grad((fast.plan, fast.residual), (cost, mu), upstream)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=150)
@given(
    batch=st.integers(1, 3),
    locations=st.integers(1, 60),
    prototypes=st.integers(1, 8),
    ratio=st.floats(0.01, 0.99),
    log_sharpness=st.floats(-3, 4),
    levels=st.integers(1, 50),
    seed=st.integers(0, 10**6),
)
def test_mass_is_conserved_in_float32_for_any_cost_ratio_and_sharpness(
    batch: int, locations: int, prototypes: int, ratio: float, log_sharpness: float, levels: int, seed: int
) -> None:
    cost = uniform(batch, locations, prototypes, seed=seed, dtype=torch.float32)
    cost = (cost * levels).round() / levels  # few levels: ties and wide gaps
    result = partial_transport(cost, ratio=ratio, sharpness=10**log_sharpness)
    assert (result.gate.mean(1) - ratio).abs().max() <= 1e-6
    assert result.plan.min() >= 0 and result.residual.min() >= 0
    marginal = result.residual + result.plan.sum(2)
    torch.testing.assert_close(marginal, torch.full_like(marginal, 1 / locations), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("sharpness", SHARPNESSES)
def test_mass_is_conserved_inside_autocast(ratio: float, sharpness: float) -> None:
    cost = uniform(16, 49, 64, dtype=torch.float32)
    for low in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=low):
            gate = partial_transport(cost.to(low), ratio=ratio, sharpness=sharpness).gate
        assert gate.dtype == torch.float32
        assert (gate.mean(1) - ratio).abs().max() <= 1e-6


def test_ratio_one_keeps_everything_exactly_and_has_finite_gradients() -> None:
    cost = uniform(2, 7, 3).requires_grad_()
    for ratio in (1.0, torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)):
        result = partial_transport(cost, ratio=ratio, sharpness=5.0)
        assert torch.equal(result.gate[0], torch.ones(7, dtype=torch.float64))
        assert torch.equal(result.residual[0], torch.zeros(7, dtype=torch.float64))
        assert torch.autograd.grad(result.plan.square().sum(), cost)[0].isfinite().all()


@pytest.mark.parametrize("ratio", RATIOS)
def test_gates_are_uniform_when_sharpness_vanishes_or_costs_are_equal(ratio: float) -> None:
    blurred = partial_transport(uniform(2, 49, 8), ratio=ratio, sharpness=1e-9).gate
    equal = partial_transport(
        torch.full((2, 49, 8), 1.3, dtype=torch.float64), ratio=ratio, sharpness=1e4
    ).gate
    uniform_gate = torch.full((2, 49), ratio, dtype=torch.float64)
    torch.testing.assert_close(blurred, uniform_gate, rtol=0, atol=1e-8)
    torch.testing.assert_close(equal, uniform_gate, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("ratio", "whole", "fraction"), [(0.3, 3, 0.0), (0.45, 4, 0.5), (0.07, 0, 0.7)])
def test_infinite_sharpness_keeps_the_nearest_locations_and_one_fraction(
    ratio: float, whole: int, fraction: float
) -> None:
    cost = uniform(5, 10, 4)
    gate = partial_transport(cost, ratio=ratio, sharpness=1e6).gate
    order = cost.amin(2).argsort(1)
    expected = torch.zeros(10, dtype=torch.float64)
    expected[:whole], expected[whole] = 1.0, fraction
    torch.testing.assert_close(gate.gather(1, order), expected.expand(5, 10), rtol=0, atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(shift=st.floats(-3, 3), ratio=st.floats(0.01, 1.0), seed=st.integers(0, 10**6))
def test_a_constant_added_to_all_costs_changes_nothing(shift: float, ratio: float, seed: int) -> None:
    cost = uniform(2, 9, 4, seed=seed)
    plain = partial_transport(cost, ratio=ratio, sharpness=5.0)
    shifted = partial_transport(cost + shift, ratio=ratio, sharpness=5.0)
    torch.testing.assert_close(plain, shifted, rtol=0, atol=1e-10)


def test_permuting_locations_permutes_the_plan() -> None:
    cost, order = uniform(2, 9, 4), torch.randperm(9, generator=torch.Generator().manual_seed(3))
    plain = partial_transport(cost, ratio=0.3, sharpness=5.0)
    permuted = partial_transport(cost[:, order], ratio=0.3, sharpness=5.0)
    torch.testing.assert_close(permuted.plan, plain.plan[:, order])
    torch.testing.assert_close(permuted.gate, plain.gate[:, order])


def test_each_image_can_have_its_own_ratio() -> None:
    cost, ratios = uniform(3, 9, 4), torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    together = partial_transport(cost, ratio=ratios, sharpness=5.0).plan
    for image, ratio in enumerate(ratios.tolist()):
        alone = partial_transport(cost[image : image + 1], ratio=ratio, sharpness=5.0).plan
        torch.testing.assert_close(together[image : image + 1], alone)


def test_one_location_carries_the_whole_mass() -> None:
    result = partial_transport(uniform(2, 1, 4), ratio=0.3, sharpness=5.0)
    torch.testing.assert_close(result.gate, torch.full((2, 1), 0.3, dtype=torch.float64))


# Gradients


@pytest.mark.parametrize("sharpness", [0.5, 5.0, 30.0])
def test_gradients_of_cost_and_ratio_are_exact(sharpness: float) -> None:
    cost, ratio = (
        uniform(2, 5, 3).requires_grad_(),
        torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(
        lambda c, r: partial_transport(c, ratio=r, sharpness=sharpness), (cost, ratio)
    )


def test_second_derivatives_of_the_plan_are_exact() -> None:
    cost, ratio = (
        uniform(1, 4, 2).requires_grad_(),
        torch.tensor(0.4, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradgradcheck(
        lambda c, r: partial_transport(c, ratio=r, sharpness=3.0), (cost, ratio)
    )


def test_gates_with_one_bias_do_not_feel_a_common_shift_of_scores() -> None:
    scores = normal(2, 6).requires_grad_()
    (grad,) = torch.autograd.grad((calibrated_gate(scores, 0.4) * normal(2, 6, seed=1)).sum(), scores)
    torch.testing.assert_close(grad.sum(1), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-14)


# The cost


def test_cost_is_the_distance_on_the_unit_ball_and_its_gradient_is_exact() -> None:
    features, prototypes = normal(2, 5, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    expected = torch.cdist(project_to_ball(features), project_to_ball(prototypes).expand(2, -1, -1))
    torch.testing.assert_close(prototype_cost(features, prototypes), expected)
    assert torch.autograd.gradcheck(prototype_cost, (features, prototypes))


def test_vectors_inside_the_ball_are_left_alone_and_others_have_length_one() -> None:
    vectors = torch.tensor([[0.3, 0.4], [3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(project_to_ball(vectors), torch.tensor([[0.3, 0.4], [0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_at_distance_zero_is_zero(dtype: torch.dtype) -> None:
    features = (normal(1, 6, 8, dtype=dtype) * 0.2).requires_grad_()
    prototypes = features.detach()[0].clone().requires_grad_()
    cost = prototype_cost(features, prototypes).diagonal(dim1=1, dim2=2)
    assert torch.equal(cost, torch.zeros(1, 6, dtype=dtype))
    for grad in torch.autograd.grad(cost.sum(), (features, prototypes)):
        assert torch.equal(grad, torch.zeros_like(grad))


# The fused pooling


@pytest.mark.parametrize("length", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("sharpness", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("per_image", [False, True])
def test_fused_pooling_equals_the_definition_with_its_gradients(
    length: float, sharpness: float, per_image: bool
) -> None:
    features = (normal(3, 6, 10) * length / math.sqrt(6)).requires_grad_()
    prototypes = (normal(4, 6, seed=1) * 0.5).requires_grad_()
    ratio = torch.tensor([0.1, 0.5, 0.9] if per_image else 0.3, dtype=torch.float64, requires_grad=True)
    expected = reference_pool(features, prototypes, ratio, sharpness)
    actual = transport_pool(features, prototypes, ratio=ratio, sharpness=sharpness)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    upstream, inputs = [normal(*t.shape, seed=7) for t in actual], (features, prototypes, ratio)
    gradients = [torch.autograd.grad(outputs, inputs, upstream) for outputs in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)


def test_fused_pooling_passes_the_gradient_check_for_features_prototypes_and_ratio() -> None:
    features, prototypes = normal(2, 4, 5).requires_grad_(), (normal(3, 4, seed=1) * 0.4).requires_grad_()
    ratio = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    inputs = (features, prototypes, ratio)
    assert torch.autograd.gradcheck(lambda f, p, r: transport_pool(f, p, ratio=r, sharpness=5.0), inputs)


@pytest.mark.parametrize("per_image", [False, True])
def test_a_sharpness_that_is_a_tensor_pools_as_the_number_and_has_an_exact_gradient(per_image: bool) -> None:
    features, prototypes = normal(2, 4, 5).requires_grad_(), (normal(3, 4, seed=1) * 0.4).requires_grad_()
    gamma = torch.tensor([3.0, 7.0] if per_image else 5.0, dtype=torch.float64, requires_grad=True)
    actual = transport_pool(features, prototypes, ratio=0.3, sharpness=gamma)
    for i, number in enumerate(gamma.expand(2).tolist()):
        alone = transport_pool(features[i : i + 1], prototypes, ratio=0.3, sharpness=number)
        torch.testing.assert_close([part[i : i + 1] for part in actual], list(alone), rtol=0, atol=1e-14)
    inputs = (features, prototypes, gamma)
    assert torch.autograd.gradcheck(lambda f, p, g: transport_pool(f, p, ratio=0.3, sharpness=g), inputs)


def pooled_with_gradients(features: Tensor, prototypes: Tensor) -> list[Tensor]:
    f, p = features.detach().requires_grad_(), prototypes.detach().requires_grad_()
    outputs = transport_pool(f, p, ratio=0.3, sharpness=5.0)
    upstream = [normal(*t.shape, seed=7).to(t) for t in outputs]
    return [*outputs, *torch.autograd.grad(outputs, (f, p), upstream)]


def test_the_layout_of_the_features_does_not_change_the_pooling() -> None:
    features, prototypes = normal(3, 6, 10), normal(4, 6, seed=1) * 0.4
    channels_last = features.mT.contiguous().mT
    torch.testing.assert_close(
        pooled_with_gradients(features, prototypes),
        pooled_with_gradients(channels_last, prototypes),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("shape", [(3, 6, 10, 4), (1, 1, 1, 1), (2, 1, 5, 3), (2, 5, 1, 1), (4, 128, 49, 64)])
def test_in_float32_products_as_convolutions_agree_with_those_in_float64(shape: tuple[int, ...]) -> None:
    batch, channels, locations, prototypes = shape
    exact = normal(batch, channels, locations), normal(prototypes, channels, seed=1)
    single = pooled_with_gradients(*(t.float() for t in exact))
    for got, want in zip(single, pooled_with_gradients(*exact), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [0, 1])
def test_fused_pooling_computes_only_the_gradients_that_are_asked_for(frozen: int) -> None:
    inputs = [normal(2, 4, 5), normal(3, 4, seed=1)]
    inputs[1 - frozen].requires_grad_()
    transport_pool(inputs[0], inputs[1], ratio=0.3, sharpness=5.0)[0].sum().backward()
    assert inputs[frozen].grad is None
    assert inputs[1 - frozen].grad is not None


@pytest.mark.parametrize("sharpness", SHARPNESSES)
@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.99])
def test_nothing_overflows_at_any_sharpness_or_precision(
    sharpness: float, low: torch.dtype, ratio: float
) -> None:
    features = normal(4, 8, 49, dtype=torch.float32).to(low)
    features[0] = 0  # dead
    features[1] = features[1, :, :1]  # constant
    features.requires_grad_()
    prototypes = normal(6, 8, seed=1, dtype=torch.float32)
    prototypes[0] = features.detach()[1, :, 0].float()  # coincident
    prototypes.requires_grad_()
    mu = torch.tensor(ratio, requires_grad=True)
    with torch.autocast(
        "cpu", dtype=torch.bfloat16 if low == torch.float32 else low, enabled=low != torch.float32
    ):
        outputs = transport_pool(features, prototypes, ratio=mu, sharpness=sharpness)
        sum(output.square().sum() for output in outputs).backward()
    values = [*outputs, features.grad, prototypes.grad, mu.grad]
    assert all(value is not None and value.isfinite().all() for value in values)


def test_fused_pooling_in_float32_agrees_with_float64() -> None:
    features, prototypes = normal(4, 32, 49) / math.sqrt(32), normal(16, 32, seed=1) / math.sqrt(32)
    exact = transport_pool(features, prototypes, ratio=0.3, sharpness=5.0)
    single = transport_pool(features.float(), prototypes.float(), ratio=0.3, sharpness=5.0)
    torch.testing.assert_close([s.double() for s in single], list(exact), rtol=1e-5, atol=1e-6)


def test_fused_pooling_exports_with_a_free_batch_size() -> None:
    class Pool(torch.nn.Module):
        def forward(self, features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return transport_pool(features, prototypes, ratio=0.3, sharpness=5.0)

    batch = torch.export.Dim("batch", min=1, max=64)
    inputs = (normal(2, 4, 6), normal(3, 4, seed=1))
    program = torch.export.export(Pool(), inputs, dynamic_shapes=({0: batch}, None), strict=False)
    other = normal(5, 4, 6, seed=2)
    torch.testing.assert_close(program.module()(other, inputs[1]), Pool()(other, inputs[1]))


# Errors


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.01, math.nan, torch.tensor(1.5), torch.tensor([0.5, 0.0])])
def test_a_ratio_out_of_range_is_refused(ratio: float | Tensor) -> None:
    with pytest.raises(ValueError, match=r"ratio is .*expected above 0 and at most 1"):
        partial_transport(uniform(2, 3, 4), ratio=ratio, sharpness=5.0)


@pytest.mark.parametrize("shape", [(3,), (2, 1)])
def test_a_ratio_of_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"ratio has shape .* one number, or one per image"):
        partial_transport(uniform(2, 3, 4), ratio=torch.full(shape, 0.5), sharpness=5.0)


@pytest.mark.parametrize("sharpness", [0.0, -1.0, math.inf, math.nan])
def test_a_sharpness_that_is_not_positive_and_finite_is_refused(sharpness: float) -> None:
    with pytest.raises(ValueError, match=r"sharpness is .*expected a finite number above 0"):
        partial_transport(uniform(2, 3, 4), ratio=0.3, sharpness=sharpness)
    with pytest.raises(ValueError, match="sharpness is"):
        transport_pool(normal(2, 4, 5), normal(3, 4), ratio=0.3, sharpness=sharpness)


@pytest.mark.parametrize("cost", [torch.zeros(3, 4), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_a_cost_that_is_not_a_floating_batch_of_matrices_is_refused(cost: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"cost has shape .*expected floating point \(batch, locations, prototypes\)"
    ):
        partial_transport(cost, ratio=0.3, sharpness=5.0)


def test_a_sharpness_of_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sharpness has shape \(3,\) for a batch of 2"):
        transport_pool(normal(2, 4, 5), normal(3, 4), ratio=0.3, sharpness=torch.ones(3))


@pytest.mark.parametrize("sharpness", [0.0, -1.0, math.inf, math.nan])
def test_a_sharpness_in_a_tensor_is_checked_too(sharpness: float) -> None:
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        partial_transport(uniform(2, 4, 3), ratio=0.3, sharpness=torch.tensor(sharpness))
