"""The sharpness that gives the weights a wanted effective share, against a search by another library."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from dml.functional.sharpness import HIGHEST, LOWEST, effective_share, fit_sharpness
from dml.functional.transport import partial_transport


def costs(batch: int = 3, *, spread: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1 + spread * torch.rand(batch, 16, 5, generator=generator, dtype=torch.float64)


def share_at(cost: Tensor, sharpness: float, ratio: float) -> Tensor:
    """The definition, weight by weight."""
    gate = partial_transport(cost, ratio=ratio, sharpness=sharpness).gate
    shares = []
    for row in gate:
        weights = [w / row.sum().item() for w in row.tolist()]
        shares.append(math.exp(-sum(w * math.log(w) for w in weights if w > 0)) / len(weights))
    return torch.tensor(shares, dtype=torch.float64)


def test_the_effective_share_of_some_equal_weights_is_their_number() -> None:
    weights = torch.tensor([[1 / 8] * 8, [1 / 4] * 4 + [0.0] * 4, [1.0] + [0.0] * 7])
    assert effective_share(weights).tolist() == pytest.approx([1, 0.5, 1 / 8])


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_the_share_is_as_wanted_however_far_the_costs_spread(ratio: float, spread: float) -> None:
    cost, wanted = costs(spread=spread), (1 + ratio) / 2
    sharpness, share = fit_sharpness(cost, ratio=ratio, share=wanted)
    exact = brentq(lambda log: share_at(cost, math.exp(log), ratio).mean().item() - wanted, -7, 9, xtol=1e-12)
    assert sharpness.item() == pytest.approx(math.exp(exact), rel=1e-6)
    assert share.item() == pytest.approx(wanted, abs=1e-6)


def test_each_image_can_have_its_own() -> None:
    cost = costs(4) * torch.tensor([0.1, 1.0, 3.0, 10.0], dtype=torch.float64)[:, None, None]
    sharpness, share = fit_sharpness(cost, ratio=0.3, share=0.5, per_image=True)
    torch.testing.assert_close(share, torch.full_like(share, 0.5))
    for i in range(4):
        alone, _ = fit_sharpness(cost[i : i + 1], ratio=0.3, share=0.5)
        assert sharpness[i].item() == pytest.approx(alone.item(), rel=1e-6)


def test_costs_in_other_units_have_the_sharpness_in_theirs() -> None:
    once, twice = (fit_sharpness(k * costs(), ratio=0.3, share=0.6)[0].item() for k in (1, 2))
    assert once == pytest.approx(2 * twice, rel=1e-6)


def test_where_no_sharpness_gives_it_the_search_ends_at_its_limit_and_says_what_it_gives() -> None:
    for cost, limit in ((torch.ones(2, 9, 3), HIGHEST), (1e6 * costs().float(), LOWEST)):
        sharpness, share = fit_sharpness(cost, ratio=0.3, share=0.5)
        assert sharpness.item() == pytest.approx(limit, rel=1e-5)
        assert abs(share.item() - 0.5) > 0.1


def test_what_is_found_has_no_gradient() -> None:
    cost = costs().requires_grad_()
    assert not any(found.requires_grad for found in fit_sharpness(cost, ratio=0.3, share=0.5))
