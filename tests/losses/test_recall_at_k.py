import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dml.losses import RecallAtKLoss
from tests.losses.cases import Pairs, unit

RANKS = [1, 2, 4, 8, 16]
loss = RecallAtKLoss(ranks=RANKS, rank_temperature=1.0, similarity_temperature=0.01)


def slow_recall_at_k(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    """The formula, k by k, query by query, item by item."""
    s, costs = x @ r.T, []
    for k in RANKS:
        for q in range(pairs.size):
            found = []
            for p in pairs.positives[q]:
                others = [z for z in pairs.positives[q] + pairs.negatives[q] if z != p]
                rank = 1 + sum(torch.sigmoid((s[q, z] - s[q, p]) / 0.01) for z in others)
                found.append(torch.sigmoid(torch.as_tensor(k - rank, dtype=s.dtype)))
            if found:
                costs.append(1 - sum(found) / len(found))
    return torch.stack(costs).mean() if costs else s.new_zeros(())


@settings(deadline=None)  # the first call loads kernels
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_it_equals_the_formula_item_by_item(labels: list[int], seed: int) -> None:
    x = unit(len(labels), seed)
    expected = slow_recall_at_k(x, x, Pairs(labels, labels, same=True))
    torch.testing.assert_close(loss(x, torch.tensor(labels)), expected)


def test_references_are_ranked_instead_of_the_batch() -> None:
    x, past, labels, others = unit(4, 0), unit(7, 1), [0, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2]
    expected = slow_recall_at_k(x, past, Pairs(labels, others, same=False))
    value = loss(x, torch.tensor(labels), ref_emb=past, ref_labels=torch.tensor(others))
    torch.testing.assert_close(value, expected)


def test_cold_temperatures_count_recall_at_k() -> None:
    cold = RecallAtKLoss(ranks=[2], rank_temperature=1e-3, similarity_temperature=1e-6)
    x = unit(6, 3)
    nearest = (x @ x.T).fill_diagonal_(-1).argsort(dim=1, descending=True)
    found = [(q ^ 1) in nearest[q, :1].tolist() for q in range(6)]  # half of a rank of exactly 2 counts
    second = [(q ^ 1) == nearest[q, 1].item() for q in range(6)]
    expected = 1 - (sum(found) + 0.5 * sum(second)) / 6
    assert cold(x, torch.arange(6) // 2).item() == pytest.approx(expected, abs=1e-6)


def test_the_gradient_is_exact() -> None:
    soft = RecallAtKLoss(ranks=[1, 2], rank_temperature=1.0, similarity_temperature=0.2)
    assert torch.autograd.gradcheck(
        lambda x: soft(x, torch.tensor([0, 0, 1, 1, 2])), unit(5, 3).requires_grad_()
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ranks": []}, "one or more whole ranks"),
        ({"ranks": [0, 1]}, "at least 1"),
        ({"ranks": [1.5]}, "whole ranks"),
        ({"rank_temperature": 0.0}, "rank_temperature=0.0 .*above 0"),
        ({"similarity_temperature": float("nan")}, "similarity_temperature=nan must be above 0"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecallAtKLoss(**{"ranks": [1], "rank_temperature": 1.0, "similarity_temperature": 0.01, **wrong})
