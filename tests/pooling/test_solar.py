import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dml.pooling import SOLARPooling


def positive(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1


def make(attending: bool = True, **changes: Any) -> SOLARPooling:
    torch.manual_seed(0)
    layer = SOLARPooling(6, **{"reduction": 2, "power": 3.0, **changes})
    if attending:
        torch.nn.init.normal_(layer.out.weight, std=0.3)
        for part in (layer.query, layer.key):  # attention that decides
            torch.nn.init.normal_(part[0].weight)
            torch.nn.init.constant_(part[1].bias, 1.0)
    return layer.double()


def power_mean(column: Tensor, power: float) -> float:
    return (sum(max(float(f), 1e-6) ** power for f in column) / len(column)) ** (1 / power)


def attended(layer: SOLARPooling, tokens: Tensor) -> Tensor:
    """f_i + V Σ_k softmax_k(⟨q(f_i), k(f_k)⟩ / √c) h(f_k) of one image (N, C), pair by pair."""
    result = tokens.clone()
    for i, token in enumerate(tokens):
        query, mixed = layer.query(token), torch.zeros(3).double()
        odds = [math.exp(float(query @ layer.key(other)) / math.sqrt(3)) for other in tokens]
        assert max(odds) > 1.2 * min(odds)
        for odd, other in zip(odds, tokens, strict=True):
            mixed += odd / sum(odds) * (layer.value.weight @ other + layer.value.bias)
        result[i] += layer.out.weight @ mixed + layer.out.bias
    return result


def test_it_is_the_generalized_mean_of_features_that_attend_to_each_other() -> None:
    layer, features = make().requires_grad_(False), positive(2, 7, 6)
    pooled = layer(features)
    for image in range(2):
        refined = attended(layer, features[image])
        expected = [power_mean(refined[:, c], 3.0) for c in range(6)]
        assert pooled.vectors[image].tolist() == pytest.approx(expected)
        shares = refined.clamp(min=1e-6) ** 3
        torch.testing.assert_close(pooled.weights[image], (shares / shares.sum(0)).mean(1))


def test_query_and_key_are_normalised_over_their_channels_and_rectified() -> None:
    layer, features = make(), positive(2, 7, 6)
    linear = layer.query[0](features)
    centred = linear - linear.mean(2, keepdim=True)
    expected = F.relu(1 + centred / (linear.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(layer.query(features), expected)


@pytest.mark.parametrize("power", [1.5, 3.0, 50.0])
def test_it_starts_as_the_generalized_mean_of_the_features(power: float) -> None:
    layer, features = make(attending=False, power=power), positive(2, 7, 6)
    vectors = layer(features).vectors
    for image in range(2):
        expected = [power_mean(features[image, :, c], power) for c in range(6)]
        assert vectors[image].tolist() == pytest.approx(expected)


def test_the_exponent_and_the_attention_learn() -> None:
    layer = make()
    layer(positive(2, 7, 6)).vectors.square().sum().backward()
    maps = (layer.query[0], layer.key[0], layer.value, layer.out)
    assert all(linear.weight.grad.abs().sum() > 0 for linear in maps)
    assert layer.mean.power.item() == pytest.approx(3.0) and layer.mean.power_parameter.grad != 0


def test_large_features_and_powers_do_not_overflow() -> None:
    features = (1e4 * positive(2, 7, 6)).float()
    pooled = make(attending=False, power=200.0).float()(features)
    torch.testing.assert_close(pooled.vectors, features.amax(1), rtol=0.02, atol=0)


def test_dead_channels_have_finite_gradients() -> None:
    features = torch.zeros(2, 6, 3, 3, requires_grad=True)
    layer = make(attending=False).float()
    layer(features).vectors.sum().backward()
    assert features.grad.isfinite().all() and layer.mean.power_parameter.grad.isfinite()


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(), positive(2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[::2], features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reduction": 0}, "pooling.reduction=0: give a whole number of 1 or more"),
        ({"power": 0.5}, "pooling.power=0.5: give 1 or more"),
        ({"power": float("nan")}, "pooling.power=nan: give 1 or more"),
        ({"power": float("inf")}, "pooling.power=inf: give 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
