from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.pooling import GeneralizedMeanPooling, GlobalAveragePooling, GlobalMaxPooling


def positive(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.01


def make(power: float = 3.0, learned_power: str = "none") -> GeneralizedMeanPooling:
    return GeneralizedMeanPooling(6, power=power, learned_power=learned_power).double()


@pytest.mark.parametrize("power", [1.0, 3.0, 40.0])
def test_it_is_the_power_mean_channel_by_channel_and_its_terms_are_the_shares(power: float) -> None:
    features = positive(2, 10, 6)
    pooled = make(power)(features)
    for b in range(2):
        shares = torch.zeros(10, dtype=torch.float64)
        for c in range(6):
            terms = [f**power for f in features[b, :, c].tolist()]
            assert pooled.vectors[b, c].item() == pytest.approx((sum(terms) / 10) ** (1 / power), rel=1e-12)
            shares += torch.tensor(terms) / sum(terms) / 6
        torch.testing.assert_close(pooled.weights[b], shares)


def test_power_one_is_global_average_pooling_of_positive_features() -> None:
    features = positive(2, 6, 3, 4)
    torch.testing.assert_close(make(1.0)(features).vectors, GlobalAveragePooling(6)(features).vectors)


def test_a_large_power_approaches_the_maximum_without_overflow() -> None:
    features = 1e4 * positive(2, 10, 6).float()
    pooled, largest = make(1000.0).float()(features), GlobalMaxPooling(6)(features)
    torch.testing.assert_close(pooled.vectors, largest.vectors, rtol=0.01, atol=0)
    torch.testing.assert_close(pooled.weights, largest.weights, rtol=0, atol=0.1)


@given(first=st.floats(1, 50), more=st.floats(0.1, 50))
@settings(max_examples=30, deadline=None)
def test_the_vector_grows_with_the_power(first: float, more: float) -> None:
    features = positive(2, 10, 6)
    lower, higher = make(first)(features).vectors, make(first + more)(features).vectors
    assert (lower < higher).all()


@pytest.mark.parametrize(("learned_power", "count"), [("shared", 1), ("per_channel", 6)])
@pytest.mark.parametrize("power", [1.001, 3.0, 800.0])
def test_a_learned_power_starts_where_told_and_gets_a_gradient(
    learned_power: str, count: int, power: float
) -> None:
    layer, features = make(power, learned_power), positive(2, 10, 6)
    torch.testing.assert_close(layer.power, torch.full((count,), power).double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(layer(features).vectors, make(power)(features).vectors, rtol=1e-4, atol=0)
    layer(features).vectors.sum().backward()
    assert (layer.power_parameter.grad > 0).all()


def test_a_learned_power_stays_above_one_however_far_it_is_pushed() -> None:
    layer = make(learned_power="shared")
    layer.power_parameter.data.fill_(-30.0)
    layer(positive(2, 10, 6)).vectors.sum().backward()
    assert layer.power > 1 and layer.power_parameter.grad > 0


def test_each_channel_may_have_its_own_power() -> None:
    layer, features = make(learned_power="per_channel"), positive(2, 10, 6)
    layer.power_parameter.data[:3] = 60.0
    vectors, largest = layer(features).vectors, features.amax(1)
    assert (vectors[:, :3] > 0.95 * largest[:, :3]).all()
    torch.testing.assert_close(vectors[:, 3:], make()(features).vectors[:, 3:])


@pytest.mark.parametrize("learned_power", ["none", "shared", "per_channel"])
def test_gradients_are_exact_in_float64(learned_power: str) -> None:
    layer, features = make(learned_power=learned_power), positive(2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x)[::2], (features, *layer.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"power": 0.5}, r"pooling.power=0.5: give 1 or more"),
        ({"power": float("inf")}, r"pooling.power=inf: give 1 or more"),
        ({"power": float("nan")}, r"pooling.power=nan: give 1 or more"),
        ({"power": 1.0, "learned_power": "shared"}, r"pooling.power=1.0: .* more than 1 to learn it"),
        ({"learned_power": "both"}, r"learned_power='both' is unknown; choose one of .*'per_channel'"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
