import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dml.pooling import SlotAttentionPooling


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(**changes: Any) -> SlotAttentionPooling:
    torch.manual_seed(0)
    settings = {"num_slots": 3, "slot_channels": 4, "hidden_channels": 5, "iterations": 3, **changes}
    return SlotAttentionPooling(6, **settings).double()


def normalised(norm: nn.LayerNorm, vector: Tensor) -> Tensor:
    deviation = (vector.var(unbiased=False) + norm.eps).sqrt()
    return norm.weight * (vector - vector.mean()) / deviation + norm.bias


def recurrent(cell: nn.GRUCell, update: Tensor, state: Tensor) -> Tensor:
    """Reset, update and candidate gate, in that order, as the cell keeps them."""
    from_input = (cell.weight_ih @ update + cell.bias_ih).chunk(3)
    from_state = (cell.weight_hh @ state + cell.bias_hh).chunk(3)
    reset, keep = (
        (one + other).sigmoid() for one, other in list(zip(from_input, from_state, strict=True))[:2]
    )
    candidate = (from_input[2] + reset * from_state[2]).tanh()
    return (1 - keep) * candidate + keep * state


def published(layer: SlotAttentionPooling, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Algorithm 1 on one image (N, C), location by location: the slots (K, S) and the last shares (N, K)."""
    inputs = [normalised(layer.norm, token) for token in tokens]
    slots, count = list(layer.start), len(layer.start)
    for _ in range(layer.iterations):
        queries = [layer.query[1].weight @ normalised(layer.query[0], slot) for slot in slots]
        attention = torch.zeros(len(tokens), count).double()
        for i, token in enumerate(inputs):
            odds = [math.exp(float((layer.key.weight @ token) @ query) / math.sqrt(4)) for query in queries]
            attention[i] = torch.tensor(odds).double() / sum(odds)
        shares = attention / attention.sum(0)
        for j in range(count):
            update = sum(shares[i, j] * (layer.value.weight @ token) for i, token in enumerate(inputs))
            slots[j] = recurrent(layer.cell, update, slots[j])
            norm, first, _, last = layer.mlp
            hidden = (first.weight @ normalised(norm, slots[j]) + first.bias).clamp(min=0)
            slots[j] = slots[j] + last.weight @ hidden + last.bias
    return torch.stack(slots), shares


@pytest.mark.parametrize("iterations", [1, 3])
def test_it_is_the_published_algorithm_from_learned_slots(iterations: int) -> None:
    layer, features = make(iterations=iterations).requires_grad_(False), 2 * normal(2, 7, 6)
    for linear in (layer.key, layer.query[1]):
        nn.init.normal_(linear.weight)  # attention that decides
    pooled = layer(features)
    for image in range(2):
        slots, shares = published(layer, features[image])
        torch.testing.assert_close(pooled.vectors[image], slots.flatten())
        torch.testing.assert_close(pooled.weights[image], shares.mean(1))


def test_the_start_decides_which_slot_stands_where_in_the_vector() -> None:
    layer, features = make(), normal(2, 7, 6)
    before = layer(features).vectors.unflatten(1, (3, 4))
    with torch.no_grad():
        layer.start.copy_(layer.start[[2, 0, 1]].clone())
    torch.testing.assert_close(layer(features).vectors.unflatten(1, (3, 4)), before[:, [2, 0, 1]])


def test_one_slot_competes_with_nobody_and_weighs_all_locations_alike() -> None:
    pooled = make(num_slots=1)(normal(2, 6, 3, 5))
    torch.testing.assert_close(pooled.weights, torch.full((2, 15), 1 / 15).double())


def test_the_same_image_has_the_same_vector_every_time() -> None:
    layer, features = make(), normal(2, 7, 6)
    assert layer(features).vectors.equal(layer(features).vectors)


def test_a_slot_that_gets_next_to_nothing_still_has_shares() -> None:
    layer = make().float()
    with torch.no_grad():
        layer.key.weight.mul_(1e4)
    pooled = layer(normal(2, 6, 3, 5).float())
    torch.testing.assert_close(pooled.weights.sum(1), torch.ones(2))
    assert pooled.vectors.isfinite().all()


def test_everything_learns() -> None:
    layer = make()
    layer(normal(2, 7, 6)).vectors.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(), normal(2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[::2], features)


@pytest.mark.parametrize("name", ["num_slots", "slot_channels", "hidden_channels", "iterations"])
def test_settings_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"pooling.{name}=0: give a whole number of 1 or more"):
        make(**{name: 0})
