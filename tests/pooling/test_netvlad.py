import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dml.pooling import NetVLADPooling


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def make(**changes: Any) -> NetVLADPooling:
    torch.manual_seed(0)
    settings = {"num_prototypes": 4, "assignment_ratio": 100.0, "lloyd_iterations": 10, **changes}
    return NetVLADPooling(6, **settings).double()


def assignments(layer: NetVLADPooling, tokens: Tensor) -> Tensor:
    """exp(w_k·x_i + b_k) / Σ_k' exp(w_k'·x_i + b_k') of unit vectors x, (N, K)."""
    result = torch.zeros(len(tokens), len(layer.prototypes)).double()
    for i, token in enumerate(tokens):
        unit = token / token.norm()
        odds = [math.exp(float(w @ unit + b)) for w, b in zip(*layer.assignment.parameters(), strict=True)]
        result[i] = torch.tensor(odds).double() / sum(odds)
    return result


def published(layer: NetVLADPooling, tokens: Tensor) -> Tensor:
    """V(·, k) = Σ_i a_k(x_i) (x_i − c_k) of one image (N, C), normalised column by column and together."""
    soft, columns = assignments(layer, tokens), []
    for k, centre in enumerate(layer.prototypes):
        column = sum(soft[i, k] * (token / token.norm() - centre) for i, token in enumerate(tokens))
        columns.append(column / column.norm())
    vector = torch.cat(columns)
    return vector / vector.norm()


def test_it_is_the_published_vector_of_normalised_residuals() -> None:
    layer, features = make().requires_grad_(False), 3 * normal(2, 7, 6)
    torch.nn.init.normal_(layer.assignment.weight, std=2.0)
    pooled = layer(features)
    assert pooled.vectors.shape == (2, layer.out_channels)
    for image in range(2):
        torch.testing.assert_close(pooled.vectors[image], published(layer, features[image]))
        soft = assignments(layer, features[image])
        torch.testing.assert_close(pooled.weights[image], (soft / soft.sum(0)).mean(1))


def test_vectors_have_unit_length_and_every_prototype_the_same_part_of_it() -> None:
    parts = make()(normal(2, 6, 3, 5)).vectors.unflatten(1, (4, 6))
    torch.testing.assert_close(parts.norm(dim=2), torch.full((2, 4), 0.5).double())


def test_the_length_of_a_local_feature_does_not_matter() -> None:
    layer, features = make(), normal(2, 7, 6)
    lengths = 1 + normal(2, 7, 1, seed=1).square()
    torch.testing.assert_close(layer(lengths * features), layer(features))


def test_a_prototype_that_gets_next_to_nothing_still_has_a_direction() -> None:
    layer = make().float()
    with torch.no_grad():
        layer.assignment.bias[0] = -500.0  # its assignments are 0 in float32
    pooled = layer(normal(2, 6, 3, 5).float())
    torch.testing.assert_close(pooled.vectors.unflatten(1, (4, 6)).norm(dim=2), torch.full((2, 4), 0.5))
    torch.testing.assert_close(pooled.weights.sum(1), torch.ones(2))


def test_dead_features_have_finite_gradients() -> None:
    layer, features = make().float(), torch.zeros(2, 6, 3, 3, requires_grad=True)
    pooled = layer(features)
    (pooled.vectors * torch.arange(24)).sum().backward()
    assert pooled.vectors.isfinite().all() and features.grad.isfinite().all()


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(), normal(2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[::2], features)


# The start of the prototypes


def test_after_the_start_features_are_assigned_by_their_distance_to_the_prototypes() -> None:
    layer, features = make(), normal(8, 16, 6)
    assert layer.initialise_prototypes(features, generator=seeded()) == 4
    units = features.flatten(0, 1) / features.flatten(0, 1).norm(dim=1, keepdim=True)
    distances = torch.cdist(units, layer.prototypes.detach()).square()
    alpha = -layer.assignment.bias[0] / layer.prototypes[0].square().sum()
    expected = torch.softmax(-alpha * distances, 1)
    torch.testing.assert_close(layer.assignment(units).softmax(1), expected)


@pytest.mark.parametrize("ratio", [3.0, 100.0])
def test_after_the_start_the_nearest_prototype_is_ahead_of_the_second_by_the_ratio(ratio: float) -> None:
    layer, features = make(assignment_ratio=ratio).requires_grad_(False), normal(8, 16, 6)
    layer.initialise_prototypes(features, generator=seeded())
    ratios = []
    for image in features:
        ordered = assignments(layer, image).sort(1, descending=True).values
        ratios += (ordered[:, 0] / ordered[:, 1]).log().tolist()
    assert math.exp(sum(ratios) / len(ratios)) == pytest.approx(ratio)


def test_prototypes_find_the_clusters_in_place_and_the_same_for_the_same_generator() -> None:
    centres = torch.eye(6)[:4].double()
    tokens = 7 * (centres.repeat(16, 8, 1) + 0.01 * normal(16, 32, 6))
    layer = make()
    parameters = dict(layer.named_parameters())
    layer.initialise_prototypes(tokens, generator=seeded(1))
    first = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    layer.initialise_prototypes(tokens.mT.unflatten(2, (4, 8)), generator=seeded(1))
    assert layer.prototypes is parameters["prototypes"]
    assert all(parameters[name].equal(first[name]) for name in parameters)
    assert torch.cdist(centres, first["prototypes"]).amin(1).max() < 0.02


def test_features_that_all_coincide_start_it_with_finite_numbers() -> None:
    layer = make(num_prototypes=2)
    with torch.no_grad():
        layer.prototypes[1] = torch.eye(6)[0]  # the two nearest prototypes are equally far
    assert layer.initialise_prototypes(torch.eye(6)[0].double().repeat(2, 5, 1), generator=seeded()) == 1
    assert all(parameter.isfinite().all() for parameter in layer.parameters())
    assert layer(normal(2, 7, 6)).vectors.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_prototypes": 2.5}, "pooling.num_prototypes=2.5: give a whole number of 1 or more"),
        ({"num_prototypes": 1}, "pooling.num_prototypes=1: give 2 or more; published with 64"),
        ({"lloyd_iterations": 0}, "pooling.lloyd_iterations=0: give a whole number of 1 or more"),
        ({"assignment_ratio": 1.0}, "pooling.assignment_ratio=1.0: give a finite number above 1"),
        ({"assignment_ratio": float("inf")}, "pooling.assignment_ratio=inf: give a finite number above 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
