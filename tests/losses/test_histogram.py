import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dml.losses import HistogramLoss
from tests.losses.cases import Pairs, unit

loss = HistogramLoss(num_bins=20)


def slow_histogram(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    """The formula, node by node, pair by pair."""
    s = x @ r.T

    def shares(some: list[tuple[int, int]]) -> list[Tensor]:
        nodes = [-1 + 0.1 * n for n in range(21)]
        return [sum((1 - (s[i, j] - node).abs() / 0.1).relu() for i, j in some) / len(some) for node in nodes]

    positive, negative = list(pairs.positive_pairs()), list(pairs.negative_pairs())
    if not positive or not negative:
        return s.new_zeros(())
    near, rest = shares(positive), shares(negative)
    return sum(rest[n] * sum(near[: n + 1]) for n in range(21))


@settings(deadline=None, max_examples=50)  # the first call loads kernels
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_it_equals_the_formula_pair_by_pair(labels: list[int], seed: int) -> None:
    x = unit(len(labels), seed)
    expected = slow_histogram(x, x, Pairs(labels, labels, same=True))
    torch.testing.assert_close(loss(x, torch.tensor(labels)), expected)


def test_references_are_compared_with_the_batch_alone() -> None:
    x, past, labels, others = unit(4, 0), unit(7, 1), [0, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2]
    expected = slow_histogram(x, past, Pairs(labels, others, same=False))
    value = loss(x, torch.tensor(labels), ref_emb=past, ref_labels=torch.tensor(others))
    torch.testing.assert_close(value, expected)


def test_a_mined_list_of_pairs_is_all_that_counts() -> None:
    x = torch.eye(3, dtype=torch.float64)
    x[1, :2] = x[1].new_tensor([0.6, 0.8])  # node 16 of 20, and 10 for the rest
    listed = tuple(map(torch.tensor, ([0], [1], [0], [2])))
    assert loss(x, torch.tensor([0, 0, 1]), listed).item() == pytest.approx(0)
    listed = tuple(map(torch.tensor, ([0], [2], [0], [1])))
    assert loss(x, torch.tensor([0, 1, 0]), listed).item() == pytest.approx(1)


def test_equal_and_opposite_images_are_counted_at_the_ends() -> None:
    x = torch.tensor([[1.0, 0], [1, 0], [-1, 0]], dtype=torch.float64)
    assert loss(x, torch.tensor([0, 0, 1])) == 0 and loss(x, torch.tensor([0, 1, 0])) == 1


def test_the_gradient_is_exact() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), unit(5, 3).requires_grad_())


def test_a_histogram_without_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="num_bins=0: give at least 1"):
        HistogramLoss(num_bins=0)
