import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.pooling import TransformerPooling


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(channels: int = 6, **changes: Any) -> TransformerPooling:
    torch.manual_seed(0)
    return TransformerPooling(channels, **{"num_heads": 2, "head_channels": 4, **changes}).double()


def normalised(norm: nn.LayerNorm, vector: Tensor) -> Tensor:
    deviation = (vector.var(unbiased=False) + norm.eps).sqrt()
    return norm.weight * (vector - vector.mean()) / deviation + norm.bias


def published(layer: TransformerPooling, tokens: Tensor) -> tuple[Tensor, list[float]]:
    """MAB(s, X) of one image (N, C): LayerNorm(H + rFF(H)), H = LayerNorm(s + Multihead(s, X, X)); mean attention."""
    heads, shares = [], [0.0] * len(tokens)
    for h, query in enumerate(layer.query):
        key, value = (linear.weight[4 * h : 4 * h + 4] for linear in (layer.key, layer.value))
        odds = [math.exp(float(query @ key @ token) / math.sqrt(4)) for token in tokens]
        attention = [odd / sum(odds) for odd in odds]
        heads.append(sum(a * value @ token for a, token in zip(attention, tokens, strict=True)))
        shares = [share + a / 2 for share, a in zip(shares, attention, strict=True)]
    hidden = normalised(layer.first_norm, layer.out.bias + layer.out.weight @ torch.cat(heads))
    linear = layer.feed_forward[0]
    forward = (linear.weight @ hidden + linear.bias).clamp(min=0)
    return normalised(layer.last_norm, hidden + forward), shares


def test_it_is_the_published_block_with_a_learned_query() -> None:
    layer, features = make().requires_grad_(False), 3 * normal(2, 7, 6)
    nn.init.normal_(layer.out.bias)
    pooled = layer(features)
    for image in range(2):
        vector, shares = published(layer, features[image])
        torch.testing.assert_close(pooled.vectors[image], vector)
        assert pooled.weights[image].tolist() == pytest.approx(shares)


def test_attention_is_that_of_torch_for_the_seed_that_gives_query_and_residual() -> None:
    layer, features, seed = make(8), normal(3, 7, 8), normal(8, seed=1)
    theirs = nn.MultiheadAttention(8, 2, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight[8:].copy_(torch.cat([layer.key.weight, layer.value.weight]))
        theirs.out_proj.weight.copy_(layer.out.weight)
        layer.query.copy_((theirs.in_proj_weight[:8] @ seed).view(2, 4))
        layer.out.bias.copy_(seed)
    attended, attention = theirs(seed.expand(3, 1, -1), features, features)
    pooled, hidden = layer(features), layer.first_norm(seed + attended.squeeze(1))
    torch.testing.assert_close(pooled.weights, attention.squeeze(1))
    torch.testing.assert_close(pooled.vectors, layer.last_norm(hidden + layer.feed_forward(hidden)))


def test_a_query_of_zero_weighs_all_locations_alike() -> None:
    layer = make()
    nn.init.zeros_(layer.query)
    torch.testing.assert_close(layer(normal(2, 6, 3, 5)).weights, torch.full((2, 15), 1 / 15).double())


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_different_images_start_out_different_on_any_scale(scale: float) -> None:
    features = (normal(20, 64, 1) + normal(20, 64, 16, seed=1)).clamp(
        min=0
    )  # every image around its own mean
    vectors = F.normalize(make(64)(scale * features.mT).vectors, dim=1)
    assert (vectors @ vectors.T).mean() < 0.9


def test_everything_learns() -> None:
    layer = make()
    (layer(normal(2, 7, 6)).vectors * normal(2, 6, seed=1)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(), normal(2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[::2], features)


@pytest.mark.parametrize("name", ["num_heads", "head_channels"])
def test_settings_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"pooling.{name}=0: give a whole number of 1 or more"):
        make(**{name: 0})
