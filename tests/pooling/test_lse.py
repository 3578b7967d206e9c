import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.pooling import GlobalAveragePooling, GlobalMaxPooling, LogSumExpPooling


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def make(sharpness: float = 5.0, learnable_sharpness: bool = False) -> LogSumExpPooling:
    return LogSumExpPooling(6, sharpness=sharpness, learnable_sharpness=learnable_sharpness).double()


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
def test_it_is_the_logarithm_of_the_mean_exponential_channel_by_channel(sharpness: float) -> None:
    features = normal(2, 10, 6)
    pooled = make(sharpness)(features)
    for b in range(2):
        shares = torch.zeros(10, dtype=torch.float64)
        for c in range(6):
            terms = [math.exp(sharpness * f) for f in features[b, :, c].tolist()]
            expected = math.log(sum(terms) / 10) / sharpness
            assert pooled.vectors[b, c].item() == pytest.approx(expected, rel=1e-12)
            shares += torch.tensor(terms) / sum(terms) / 6
        torch.testing.assert_close(pooled.weights[b], shares)


@pytest.mark.parametrize("sharpness", [1e-4, 1e-20])
def test_vanishing_sharpness_is_global_average_pooling_also_in_float32(sharpness: float) -> None:
    features = normal(2, 6, 3, 4).float()
    actual, expected = make(sharpness).float()(features), GlobalAveragePooling(6)(features)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_high_sharpness_is_max_pooling_less_the_logarithm_of_the_locations() -> None:
    features = 1e4 * normal(2, 10, 6)
    pooled, largest = make(100.0)(features), GlobalMaxPooling(6)(features)
    torch.testing.assert_close(pooled.vectors, largest.vectors - math.log(10) / 100)
    torch.testing.assert_close(pooled.weights, largest.weights)


@given(shift=st.floats(-1e3, 1e3), sharpness=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_a_constant_added_to_the_features_is_added_to_the_vector(shift: float, sharpness: float) -> None:
    features, layer = normal(2, 10, 6), make(sharpness)
    torch.testing.assert_close(layer(features + shift).vectors, layer(features).vectors + shift)


@pytest.mark.parametrize("sharpness", [1e-3, 5.0, 1e3])
def test_a_learned_sharpness_starts_where_told_and_gets_a_gradient(sharpness: float) -> None:
    layer, features = make(sharpness, learnable_sharpness=True), normal(2, 10, 6)
    torch.testing.assert_close(layer(features), make(sharpness)(features), rtol=1e-5, atol=1e-5)
    layer(features).vectors.sum().backward()
    assert layer.log_sharpness.grad > 0
    assert not list(make(sharpness).parameters())


@pytest.mark.parametrize("learnable", [False, True])
def test_gradients_are_exact_in_float64(learnable: bool) -> None:
    layer, features = make(learnable_sharpness=learnable), normal(2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x).vectors, (features, *layer.parameters()))


@pytest.mark.parametrize("sharpness", [0.0, -1.0, float("inf"), float("nan")])
def test_a_sharpness_out_of_range_is_refused(sharpness: float) -> None:
    with pytest.raises(ValueError, match=r"pooling.sharpness=.*: give a finite number above 0"):
        make(sharpness)
