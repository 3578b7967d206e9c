import math

import pytest
import torch
from torch import Tensor

from dml.pooling import DELFPooling, GlobalAveragePooling
from dml.pooling.delf import log_softplus


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(hidden_channels: int = 5) -> DELFPooling:
    torch.manual_seed(0)
    return DELFPooling(6, hidden_channels=hidden_channels).double()


def attention(layer: DELFPooling, feature: Tensor) -> float:
    """softplus(w₂·relu(W₁ f + b₁) + b₂) of one location, number by number."""
    first, _, last = layer.score
    score = last.bias.item()
    for row, bias, out in zip(
        first.weight.tolist(), first.bias.tolist(), last.weight[0].tolist(), strict=True
    ):
        inner = bias + sum(w * float(f) for w, f in zip(row, feature, strict=True))
        score += out * max(0.0, inner)
    return math.log(1 + math.exp(score))


def test_it_is_the_sum_under_softplus_attention_divided_by_all_attention() -> None:
    layer, features = make().requires_grad_(False), normal(2, 7, 6)
    pooled = layer(features)
    for image in range(2):
        alphas = [attention(layer, features[image, i]) for i in range(7)]
        published = sum(alpha * features[image, i] for i, alpha in enumerate(alphas))
        torch.testing.assert_close(pooled.vectors[image], published / sum(alphas))
        assert pooled.weights[image].tolist() == pytest.approx([alpha / sum(alphas) for alpha in alphas])


def test_attention_that_is_the_same_everywhere_is_average_pooling() -> None:
    layer, features = make(), normal(2, 6, 3, 5)
    torch.nn.init.zeros_(layer.score[2].weight)
    for actual, expected in zip(layer(features), GlobalAveragePooling(6)(features), strict=True):
        torch.testing.assert_close(actual, expected)


def test_locations_that_are_all_far_below_zero_are_still_compared() -> None:
    layer = make().float()
    torch.nn.init.constant_(layer.score[2].bias, -500.0)  # softplus is 0 in float32
    pooled = layer(normal(2, 6, 3, 5).float())
    torch.testing.assert_close(pooled.weights.sum(1), torch.ones(2))
    assert pooled.vectors.isfinite().all() and pooled.weights.std() > 0


def test_log_softplus_is_that_of_the_logarithm_and_its_slope() -> None:
    scores = torch.tensor([-1e4, -40.0, -36.0, -35.0, -1.0, 0.0, 3.0, 1e4], dtype=torch.float64)
    expected = [s if s < -700 else math.log(math.log1p(math.exp(min(s, 700)))) for s in scores.tolist()[:-1]]
    torch.testing.assert_close(log_softplus(scores), torch.tensor([*expected, math.log(1e4)]).double())
    assert torch.autograd.gradcheck(log_softplus, scores.requires_grad_())


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(), normal(2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[::2], features)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pooling.hidden_channels=0: give a whole number of 1 or more"):
        make(0)
