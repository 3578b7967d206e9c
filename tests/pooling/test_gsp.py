"""Generalized sum pooling as a layer: the limits, any shape, its prototypes and their start."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from dml.functional.transport import partial_transport, prototype_cost
from dml.pooling import (
    GeneralizedSumGeMPooling,
    GeneralizedSumMaxPooling,
    GeneralizedSumPooling,
    GlobalAveragePooling,
)

SETTINGS: dict[str, Any] = {
    "num_prototypes": 4,
    "transport_ratio": 0.3,
    "sharpness": 5.0,
    "lloyd_iterations": 10,
}


def make(channels: int = 6, **changes: Any) -> GeneralizedSumPooling:
    torch.manual_seed(0)
    return GeneralizedSumPooling(channels, **{**SETTINGS, **changes})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def test_the_layer_is_the_transport_plan_of_its_prototypes() -> None:
    layer, features = make().double(), normal(3, 10, 6).double()
    plan = partial_transport(prototype_cost(features, layer.prototypes), ratio=0.3, sharpness=5.0)
    pooled = layer(features)
    torch.testing.assert_close(pooled.weights, plan.gate / (10 * 0.3))
    torch.testing.assert_close(pooled.vectors, (pooled.weights.unsqueeze(2) * features).sum(1))
    torch.testing.assert_close(pooled.attributes, plan.plan.sum(1) / 0.3)


@pytest.mark.parametrize("changes", [{"transport_ratio": 1.0}, {"sharpness": 1e-6}])
def test_ratio_one_and_vanishing_sharpness_are_global_average_pooling(changes: dict[str, float]) -> None:
    features = normal(2, 6, 3, 5)
    pooled, average = make(**changes)(features), GlobalAveragePooling(6)(features)
    torch.testing.assert_close(pooled.vectors, average.vectors)
    torch.testing.assert_close(pooled.weights, average.weights)


def test_high_sharpness_averages_the_locations_nearest_to_any_prototype() -> None:
    layer, features = make(sharpness=1e4), normal(2, 10, 6)
    nearest = prototype_cost(features, layer.prototypes).amin(2).argsort(1)[:, :3]
    expected = features.gather(1, nearest.unsqueeze(2).expand(-1, -1, 6)).mean(1)
    torch.testing.assert_close(layer(features).vectors, expected, rtol=1e-3, atol=1e-3)


def test_permuting_locations_permutes_only_the_weights() -> None:
    layer, features, order = make(), normal(2, 10, 6), torch.randperm(10, generator=seeded())
    plain, permuted = layer(features), layer(features[:, order])
    torch.testing.assert_close(permuted.vectors, plain.vectors)
    torch.testing.assert_close(permuted.attributes, plain.attributes)
    torch.testing.assert_close(permuted.weights, plain.weights[:, order])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 7), (14, 3)])
@pytest.mark.parametrize("batch", [1, 3])
def test_maps_of_any_size_tokens_and_channels_last_give_the_same(size: tuple[int, int], batch: int) -> None:
    layer, features = make(), normal(batch, 6, *size)
    expected = layer(features)
    for given in (
        features.flatten(2).mT.contiguous(),
        features.contiguous(memory_format=torch.channels_last),
    ):
        for actual, value in zip(layer(given), expected, strict=True):
            torch.testing.assert_close(actual, value)


def test_weights_and_attributes_are_shares() -> None:
    pooled = make()(normal(4, 6, 7, 7))
    for shares in (pooled.weights, pooled.attributes):
        assert shares.min() >= 0
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert pooled.weights.max() <= 1 / (49 * 0.3) + 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_vectors_follow_the_features_and_the_rest_is_float32(dtype: torch.dtype) -> None:
    layer, features = make(), normal(2, 6, 7, 7).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        pooled = layer(features)
    pooled.vectors.sum().backward()
    assert pooled.vectors.dtype == features.grad.dtype == dtype
    assert pooled.attributes.dtype == pooled.weights.dtype == layer.prototypes.grad.dtype == torch.float32


def test_prototypes_move_under_an_optimiser_that_was_built_before_they_were_initialised() -> None:
    layer, features = make(), normal(4, 6, 5, 5)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer.initialise_prototypes(features, generator=seeded())
    before = layer.prototypes.detach().clone()
    layer(features).vectors.square().sum().backward()
    optimiser.step()
    assert not torch.equal(layer.prototypes, before)


def test_a_learned_ratio_starts_where_told_stays_inside_and_gets_a_gradient() -> None:
    layer = make(learnable_ratio=True)
    torch.testing.assert_close(layer.transport_ratio, torch.tensor(0.3))
    layer(normal(2, 6, 4, 4)).vectors.square().sum().backward()
    assert layer.ratio_logit.grad.abs() > 0
    assert dict(make().named_parameters()).keys() == {"prototypes"}


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (GeneralizedSumPooling, {}),
        (GeneralizedSumMaxPooling, {}),
        (GeneralizedSumGeMPooling, {"power": 3.0}),
    ],
)
def test_checkpoints_name_the_prototypes_and_a_learned_ratio_as_ever(
    kind: type[GeneralizedSumPooling], own: dict[str, float]
) -> None:
    saved = {"ratio_logit": torch.tensor(-1.0), "prototypes": normal(4, 6)}
    layer = kind(6, **own, **{**SETTINGS, "learnable_ratio": True})
    layer.load_state_dict(saved)
    assert list(layer.state_dict()) == [
        "prototypes",
        "ratio_logit",
    ]  # an optimizer's state counts on their order
    assert layer.prototypes.equal(saved["prototypes"]) and layer.ratio_logit == -1


def test_the_layer_publishes_what_the_model_asks_for() -> None:
    assert make(9).out_channels == 9
    assert GeneralizedSumPooling.pools_embedded is True


# The start of the prototypes


def test_prototypes_are_initialised_in_place_and_the_same_for_the_same_generator() -> None:
    layer, features = make(), normal(8, 6, 4, 4)
    parameter, address = layer.prototypes, layer.prototypes.data_ptr()
    assert layer.initialise_prototypes(features, generator=seeded(1)) == 4
    first = parameter.detach().clone()
    layer.initialise_prototypes(features, generator=seeded(1))
    assert layer.prototypes is parameter and parameter.data_ptr() == address and parameter.requires_grad
    assert torch.equal(parameter, first)


def test_prototypes_find_the_clusters_for_maps_and_tokens() -> None:
    centres = torch.eye(6)[:4] * 0.8
    tokens = centres.repeat(16, 8, 1) + 0.01 * normal(16, 32, 6)
    for features in (tokens, tokens.mT.unflatten(2, (4, 8))):
        layer = make()
        layer.initialise_prototypes(features, generator=seeded())
        distances = torch.cdist(centres, layer.prototypes.detach())
        assert distances.amin(1).max() < 0.02


def test_a_few_outliers_do_not_take_the_prototypes() -> None:
    crowd = torch.eye(6)[0] * 0.8 + 0.1 * normal(1, 2000, 6)
    outliers = -torch.eye(6)[1:5].unsqueeze(0)  # greedy k-center would put a prototype on each of these four
    layer = make(num_prototypes=8)
    layer.initialise_prototypes(torch.cat([crowd, outliers], 1), generator=seeded())
    lost = torch.cdist(outliers[0], layer.prototypes.detach()).amin(1) < 0.1
    assert lost.sum() <= 2


def test_with_fewer_distinct_features_than_prototypes_the_rest_keep_their_random_start() -> None:
    layer = make()
    start = layer.prototypes.detach().clone()
    features = (torch.eye(6)[:2] * 0.5).repeat(1, 5, 1)
    with pytest.warns(UserWarning, match="2 of 4 prototypes were placed among the local features"):
        assert layer.initialise_prototypes(features, generator=seeded()) == 2
    assert torch.equal(layer.prototypes[2:], start[2:])
    assert torch.equal(layer.prototypes[:2].sum(0), features[0, :2].sum(0))


def test_prototypes_from_pooled_features_are_the_farthest_averages_one_after_the_other() -> None:
    averages = torch.tensor([0.0, 0.1, 0.5, 0.2, 0.9])[:, None] * torch.eye(6)[0]  # the first two are covered
    features = averages[:, None] + torch.cat([torch.eye(6)[1:], -torch.eye(6)[1:]]) * 0.01
    layer = make(num_prototypes=2, prototype_start="pooled")
    assert layer.initialise_prototypes(features, generator=seeded()) == 2
    torch.testing.assert_close(layer.prototypes.detach(), averages[[4, 2]])


def test_a_random_start_leaves_the_prototypes() -> None:
    layer = make(prototype_start="random")
    start = layer.prototypes.detach().clone()
    assert layer.initialise_prototypes(normal(8, 6, 4, 4), generator=seeded()) == 0
    assert torch.equal(layer.prototypes, start)


# Convolutional costs


def slow_costs(features: Tensor, kernels: Tensor) -> Tensor:
    """(B, N, M): minus the products of each kernel with the projected features around each location."""
    batch, _, height, width = features.shape
    count, _, side, _ = kernels.shape
    projected = features / features.norm(dim=1, keepdim=True).clamp_min(1)
    costs = torch.zeros(batch, height, width, count, dtype=features.dtype)
    for y, x, dy, dx in itertools.product(range(height), range(width), range(side), range(side)):
        v, u = y + dy - side // 2, x + dx - side // 2
        if 0 <= v < height and 0 <= u < width:
            costs[:, y, x] -= projected[:, :, v, u] @ kernels[:, :, dy, dx].T
    return costs.flatten(1, 2)


@pytest.mark.parametrize("side", [1, 3])
def test_convolutional_costs_are_transported_like_distances(side: int) -> None:
    layer = make(kernel_size=side, prototype_start="random").double()
    features = 2 * normal(2, 6, 3, 5).double()
    plan = partial_transport(slow_costs(features, layer.prototypes), ratio=0.3, sharpness=5.0)
    pooled = layer(features)
    torch.testing.assert_close(pooled.weights, plan.gate / (15 * 0.3))
    torch.testing.assert_close(pooled.attributes, plan.plan.sum(1) / 0.3)
    torch.testing.assert_close(pooled.vectors, (features.flatten(2) * pooled.weights[:, None]).sum(2))
    torch.testing.assert_close(layer.plan(features).plan, plan.plan)


@pytest.mark.parametrize("changes", [{}, {"learnable_ratio": True}])
def test_gradients_through_convolutional_costs_are_exact_in_float64(changes: dict[str, Any]) -> None:
    layer = make(kernel_size=3, prototype_start="random", **changes).double()
    features, parameters = normal(2, 6, 2, 3).double().requires_grad_(), list(layer.parameters())

    def pool(*values: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(dict(layer.named_parameters()), values[1:], strict=True))
        return tuple(torch.func.functional_call(layer, named, values[0]))

    assert torch.autograd.gradcheck(pool, (features, *parameters))


def test_a_kernel_of_one_takes_tokens_and_a_larger_one_refuses_them() -> None:
    layer, features = make(kernel_size=1, prototype_start="random"), normal(2, 6, 3, 4)
    tokens = features.flatten(2).mT
    torch.testing.assert_close(layer(tokens).vectors, layer(features).vectors)
    with pytest.raises(ValueError, match=r"pooling.kernel_size=3: tokens have no neighbours"):
        make(kernel_size=3, prototype_start="random")(tokens)


# Errors


@pytest.mark.parametrize("start", ["local", "pooled"])
def test_features_that_are_not_finite_cannot_initialise_prototypes(start: str) -> None:
    with pytest.raises(ValueError, match="not finite"):
        make(prototype_start=start).initialise_prototypes(
            torch.full((1, 6, 2, 2), torch.nan), generator=seeded()
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_prototypes": 0}, "num_prototypes is 0; expected 1 or more"),
        ({"transport_ratio": 0.0}, "transport_ratio is 0.0; expected above 0 and at most 1"),
        ({"transport_ratio": 1.5}, "transport_ratio is 1.5; expected above 0 and at most 1"),
        ({"transport_ratio": 1.0, "learnable_ratio": True}, "below 1 to be learned"),
        ({"sharpness": 0.0}, "sharpness is 0.0; expected a finite number above 0"),
        ({"lloyd_iterations": -1}, "lloyd_iterations is -1; expected 0 or more"),
        ({"prototype_start": "kmeans"}, "pooling.prototype_start='kmeans'; accepted: local, pooled, random"),
        ({"kernel_size": 2, "prototype_start": "random"}, "pooling.kernel_size=2: give an odd side"),
        ({"kernel_size": 3}, "pooling.kernel_size=3: .*add pooling.prototype_start=random"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize("changes", [{}, {"learnable_ratio": True}])
def test_the_plan_is_the_one_that_the_layer_pools_by(changes: dict[str, Any]) -> None:
    layer, features = make(**changes), normal(2, 6, 3, 5)
    plan, pooled = layer.plan(features), layer(features)
    torch.testing.assert_close(plan.gate / (15 * 0.3), pooled.weights)
    torch.testing.assert_close(plan.plan.sum(1) / 0.3, pooled.attributes)


def test_attributes_can_have_a_sharpness_of_their_own() -> None:
    layer, features = make(sharpness=50.0, attribute_sharpness=2.0).double(), normal(3, 10, 6).double()
    pooled, alone = layer(features), make(sharpness=50.0).double()(features)
    soft = (-2 * prototype_cost(features, layer.prototypes)).softmax(2)
    torch.testing.assert_close(pooled.attributes, torch.einsum("bn,bnm->bm", pooled.weights, soft))
    torch.testing.assert_close(pooled.vectors, alone.vectors, rtol=0, atol=0)
    assert torch.autograd.gradcheck(lambda x: layer(x).attributes, features.requires_grad_())


def test_a_sharpness_of_attributes_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attribute_sharpness=0\.0: give a finite number above 0"):
        make(attribute_sharpness=0.0)
