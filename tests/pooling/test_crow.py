import math

import pytest
import torch

from dml.pooling import CrossDimensionalWeighting

EPSILON = 1e-6


def rectified(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(min=0)


def make(channels: int = 6, epsilon: float = EPSILON) -> CrossDimensionalWeighting:
    return CrossDimensionalWeighting(channels, epsilon=epsilon)


def test_it_is_the_published_sum_under_both_weights() -> None:
    features = rectified(2, 10, 6)
    pooled = make()(features)
    for b in range(2):
        f = features[b].tolist()
        summed = [sum(f[i]) for i in range(10)]
        norm = math.sqrt(sum(s**2 for s in summed))
        spatial = [math.sqrt(s / norm) for s in summed]
        active = [sum(f[i][c] > 0 for i in range(10)) / 10 for c in range(6)]
        for c in range(6):
            rarity = math.log((6 * EPSILON + sum(active)) / (EPSILON + active[c]))
            expected = rarity * sum(spatial[i] * f[i][c] for i in range(10))
            assert pooled.vectors[b, c].item() == pytest.approx(expected, rel=1e-9)
        assert pooled.weights[b].tolist() == pytest.approx([s / sum(spatial) for s in spatial])


def test_a_rare_channel_weighs_more_than_one_that_always_responds() -> None:
    features = torch.ones(1, 4, 2)
    features[0, 1:, 0] = 0.0  # one response of 1, against four
    features[0, 0, 0] = 4.0
    vectors = make(2)(features).vectors
    assert vectors[0, 0] > 4 * vectors[0, 1]


def test_features_below_zero_count_as_zero() -> None:
    features = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(make()(features), make()(features.clamp(min=0)))


def test_the_vector_has_the_scale_of_the_features() -> None:
    features = rectified(2, 10, 6)
    torch.testing.assert_close(make()(1e3 * features).vectors, 1e3 * make()(features).vectors)


def test_a_map_without_any_response_gives_zeros_and_uniform_weights() -> None:
    pooled = make()(torch.zeros(2, 6, 3, 4))
    assert not pooled.vectors.any()
    torch.testing.assert_close(pooled.weights, torch.full((2, 12), 1 / 12))


def test_gradients_are_exact_in_float64() -> None:
    features = (rectified(2, 5, 6) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: make()(x)[::2], features)


def test_an_empty_location_has_a_finite_gradient() -> None:
    features = torch.ones(1, 3, 6)
    features[0, 1] = 0.0
    make()(features.requires_grad_()).vectors.square().sum().backward()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("epsilon", [0.0, -1e-6, float("inf"), float("nan")])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"pooling.epsilon=.*: give a small number above 0"):
        make(epsilon=epsilon)
