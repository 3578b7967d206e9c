import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dml.pooling import GlobalAveragePooling, OptimalTransportPooling


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def make(**changes: Any) -> OptimalTransportPooling:
    torch.manual_seed(0)
    settings = {"num_prototypes": 4, "sharpness": 5.0, "iterations": 10, "lloyd_iterations": 10, **changes}
    return OptimalTransportPooling(6, **settings).double()


def inside(vector: Tensor) -> Tensor:
    return vector / max(1.0, float(vector.norm()))


def published(layer: OptimalTransportPooling, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """√p (Σ_i P_i1 f_i, ..., Σ_i P_ip f_i) and the plan P of one image (N, C), by scaling of a kernel."""
    count, size = len(tokens), len(layer.prototypes)
    kernel = torch.zeros(count, size).double()
    for i, j in ((i, j) for i in range(count) for j in range(size)):
        kernel[i, j] = math.exp(
            -layer.sharpness * float((inside(tokens[i]) - inside(layer.prototypes[j])).norm())
        )
    rows, columns = torch.ones(count).double(), torch.ones(size).double()
    for _ in range(layer.iterations):
        for i in range(count):
            rows[i] = 1 / (count * float(kernel[i] @ columns))
        for j in range(size):
            columns[j] = 1 / (size * float(kernel[:, j] @ rows))
    plan = rows.unsqueeze(1) * kernel * columns
    parts = [sum(plan[i, j] * tokens[i] for i in range(count)) for j in range(size)]
    return math.sqrt(size) * torch.cat(parts), plan


@pytest.mark.parametrize("changes", [{}, {"iterations": 1}, {"sharpness": 0.5}, {"num_prototypes": 1}])
def test_every_prototype_pools_what_the_balanced_plan_gives_it(changes: dict[str, Any]) -> None:
    layer, features = make(**changes).requires_grad_(False), 0.5 * normal(2, 7, 6)
    pooled = layer(features)
    assert pooled.vectors.shape == (2, layer.out_channels)
    for image in range(2):
        vector, plan = published(layer, features[image])
        torch.testing.assert_close(pooled.vectors[image], vector)
        torch.testing.assert_close(pooled.weights[image], plan.sum(1))


@pytest.mark.parametrize("changes", [{"num_prototypes": 1}, {"sharpness": 1e-6}])
def test_one_prototype_or_vanishing_sharpness_is_average_pooling(changes: dict[str, Any]) -> None:
    layer, features = make(**changes), normal(2, 6, 3, 5)
    pooled, average = layer(features), GlobalAveragePooling(6)(features)
    count = len(layer.prototypes)
    torch.testing.assert_close(pooled.vectors, average.vectors.repeat(1, count) / math.sqrt(count))
    torch.testing.assert_close(pooled.weights, average.weights)


def test_the_parts_add_up_to_the_average_and_weights_to_uniform_once_converged() -> None:
    layer, features = make(iterations=300), normal(2, 6, 3, 5)
    pooled, average = layer(features), GlobalAveragePooling(6)(features)
    parts = pooled.vectors.unflatten(1, (4, 6)).sum(1) / 2
    torch.testing.assert_close(parts, average.vectors)
    torch.testing.assert_close(pooled.weights, average.weights)


def test_a_sharp_plan_sorts_locations_to_the_prototypes_they_lie_at() -> None:
    layer = make(sharpness=200.0, iterations=50)
    with torch.no_grad():
        layer.prototypes.copy_(0.8 * torch.eye(6)[:4])
    features = layer.prototypes.detach()[[2, 0, 3, 1]].unsqueeze(0)  # (1, 4, 6)
    expected = math.sqrt(4) * layer.prototypes.detach() / 4
    torch.testing.assert_close(layer(features).vectors, expected.view(1, -1))


def test_features_and_prototypes_learn() -> None:
    layer, features = make(), normal(2, 7, 6).requires_grad_()
    layer(features).vectors.square().sum().backward()
    assert features.grad.abs().sum() > 0 and layer.prototypes.grad.abs().min() > 0


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(iterations=3), normal(2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[::2], features)


def test_prototypes_find_the_clusters_in_place_and_the_same_for_the_same_generator() -> None:
    centres = 0.8 * torch.eye(6)[:4].double()
    tokens = centres.repeat(16, 8, 1) + 0.01 * normal(16, 32, 6)
    layer = make()
    parameter = layer.prototypes
    assert layer.initialise_prototypes(tokens, generator=seeded(1)) == 4
    first = parameter.detach().clone()
    layer.initialise_prototypes(tokens.mT.unflatten(2, (4, 8)), generator=seeded(1))
    assert layer.prototypes is parameter and parameter.equal(first)
    assert torch.cdist(centres, first).amin(1).max() < 0.02


def test_with_fewer_distinct_features_than_prototypes_the_rest_keep_their_random_start() -> None:
    layer = make()
    start = layer.prototypes.detach().clone()
    features = (torch.eye(6)[:2] * 0.5).double().repeat(1, 5, 1)
    assert layer.initialise_prototypes(features, generator=seeded()) == 2
    assert layer.prototypes[2:].equal(start[2:]) and not layer.prototypes[:2].equal(start[:2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_prototypes": 0}, "pooling.num_prototypes=0: give a whole number of 1 or more"),
        ({"iterations": 0}, "pooling.iterations=0: give a whole number of 1 or more"),
        ({"lloyd_iterations": -1}, "pooling.lloyd_iterations=-1: give a whole number of 1 or more"),
        ({"sharpness": 0.0}, "pooling.sharpness=0.0: give a finite number above 0"),
        ({"sharpness": float("nan")}, "pooling.sharpness=nan: give a finite number above 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
