from typing import Any

import pytest
import torch

from dml.pooling import GlobalAveragePooling, GlobalMaxPooling, WeldonPooling


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("k", [1, 3, 10])
def test_it_adds_the_means_of_the_highest_and_of_the_lowest_channel_by_channel(k: int) -> None:
    features = normal(2, 10, 6)
    pooled = WeldonPooling(6, k=k)(features)
    for b in range(2):
        shares = [0.0] * 10
        for c in range(6):
            responses = features[b, :, c].tolist()
            order = sorted(range(10), key=responses.__getitem__)
            extremes = order[:k] + order[-k:]
            assert pooled.vectors[b, c].item() == pytest.approx(
                sum(responses[i] for i in extremes) / k, abs=1e-6
            )
            for i in extremes:
                shares[i] += 1 / (2 * k * 6)
        assert pooled.weights[b].tolist() == pytest.approx(shares)


def test_one_location_of_each_kind_is_maximum_plus_minimum() -> None:
    features, pooling = normal(2, 6, 3, 4), GlobalMaxPooling(6)
    expected = pooling(features).vectors - pooling(-features).vectors
    torch.testing.assert_close(WeldonPooling(6, k=1)(features).vectors, expected)


def test_all_locations_are_twice_the_average() -> None:
    features, average = normal(2, 6, 3, 4), GlobalAveragePooling(6)
    pooled = WeldonPooling(6, k=1.0)(features)
    torch.testing.assert_close(pooled.vectors, 2 * average(features).vectors)
    torch.testing.assert_close(pooled.weights, average(features).weights)


@pytest.mark.parametrize(("k", "number"), [(0.3, 3), (0.25, 2), (0.01, 1), (1.0, 10), (10, 10), (99, 10)])
def test_a_share_is_rounded_to_one_location_at_least_and_a_number_is_cut_to_all(
    k: int | float, number: int
) -> None:
    features = normal(2, 10, 6)
    torch.testing.assert_close(WeldonPooling(6, k=k)(features), WeldonPooling(6, k=number)(features))


def test_gradients_are_exact_in_float64() -> None:
    features = normal(2, 5, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: WeldonPooling(3, k=2)(x).vectors, features)


@pytest.mark.parametrize("k", [0, -1, 0.0, 1.5, -0.5, float("nan"), True, "3", None])
def test_a_k_that_is_neither_number_nor_share_is_refused(k: Any) -> None:
    with pytest.raises(ValueError, match=r"pooling.k=.*whole number of locations from 1 on, or a share"):
        WeldonPooling(6, k=k)
