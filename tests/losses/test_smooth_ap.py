import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dml.losses import SmoothAPLoss
from tests.losses.cases import Pairs, mean, unit

loss = SmoothAPLoss(temperature=0.01)


def slow_smooth_ap(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    """The formula, query by query, item by item."""
    s, costs = x @ r.T, []
    for q in range(pairs.size):

        def rank(item: int, among: list[int], q: int = q) -> Tensor:
            ahead = [torch.sigmoid((s[q, z] - s[q, item]) / 0.01) for z in among if z != item]
            return 1 + sum(ahead, s.new_zeros(()))

        positives = pairs.positives[q]
        if positives:
            precision = [rank(p, positives) / rank(p, positives + pairs.negatives[q]) for p in positives]
            costs.append(1 - mean(precision))
    return mean(costs)


@settings(deadline=None)  # the first call loads kernels
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_it_equals_the_formula_item_by_item_whatever_the_order_of_the_batch(
    labels: list[int], seed: int
) -> None:
    x = unit(len(labels), seed)
    expected = slow_smooth_ap(x, x, Pairs(labels, labels, same=True))
    torch.testing.assert_close(loss(x, torch.tensor(labels)), expected)


def test_references_are_ranked_instead_of_the_batch() -> None:
    x, past, labels, others = unit(4, 0), unit(7, 1), [0, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2]
    expected = slow_smooth_ap(x, past, Pairs(labels, others, same=False))
    value = loss(x, torch.tensor(labels), ref_emb=past, ref_labels=torch.tensor(others))
    torch.testing.assert_close(value, expected)


def test_a_cold_temperature_gives_average_precision() -> None:
    x = torch.tensor([[1.0, 0], [0.9, 0.43589], [0.8, 0.6], [0.6, 0.8]], dtype=torch.float64)
    # From the first image the rest stand in this order: right, wrong, right; alike for the others.
    value = SmoothAPLoss(temperature=1e-6)(
        x[:1], torch.tensor([0]), ref_emb=x[1:], ref_labels=torch.tensor([0, 1, 0])
    )
    assert value.item() == pytest.approx(1 - (1 + 2 / 3) / 2)


def test_the_gradient_is_exact() -> None:
    soft = SmoothAPLoss(temperature=0.2)
    assert torch.autograd.gradcheck(
        lambda x: soft(x, torch.tensor([0, 0, 1, 0, 1])), unit(5, 3).requires_grad_()
    )


def test_a_temperature_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature=0 must be above 0"):
        SmoothAPLoss(temperature=0)
