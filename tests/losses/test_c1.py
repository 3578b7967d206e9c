import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.losses import C1Loss


def slow_c1(
    x: torch.Tensor, labels: list[int], y: torch.Tensor, others: list[int], same: bool
) -> torch.Tensor:
    """The formula, pair by pair."""
    total = x.new_zeros(())
    for i in range(len(x)):
        for j in range(len(y)):
            cosine = x[i] @ y[j]
            if labels[i] == others[j] and not (same and i == j):
                total = total + 1 - cosine
            elif labels[i] != others[j] and cosine > 0.5:
                total = total + cosine - 0.5
    return total / len(x)


def unit(count: int, seed: int) -> torch.Tensor:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(points, dim=1)


@settings(deadline=None)  # the first call loads kernels
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_it_equals_the_formula_pair_by_pair(labels: list[int], seed: int) -> None:
    vectors = unit(len(labels), seed)
    expected = slow_c1(vectors, labels, vectors, labels, same=True)
    torch.testing.assert_close(C1Loss(margin=0.5)(vectors, torch.tensor(labels)), expected)


def test_references_are_compared_with_the_batch_alone() -> None:
    vectors, memory = unit(4, 0), unit(7, 1)
    labels, others = [0, 0, 1, 2], [0, 1, 2, 3, 0, 1, 2]
    loss = C1Loss(margin=0.5)(vectors, torch.tensor(labels), ref_emb=memory, ref_labels=torch.tensor(others))
    torch.testing.assert_close(loss, slow_c1(vectors, labels, memory, others, same=False))


def test_a_mined_list_of_pairs_is_all_that_counts() -> None:
    vectors, labels = unit(4, 0), torch.tensor([0, 0, 1, 1])
    a, p, n = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
    expected = (1 - vectors[0] @ vectors[1] + F.relu(vectors[0] @ vectors[2] - 0.5)) / 4
    torch.testing.assert_close(C1Loss(margin=0.5)(vectors, labels, (a, p, n)), expected)


def test_the_gradient_is_exact() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x: C1Loss(margin=0.5)(x, labels), unit(5, 3).requires_grad_())


def test_a_batch_without_pairs_costs_nothing_and_has_a_gradient() -> None:
    vectors = unit(1, 0).requires_grad_()
    loss = C1Loss(margin=0.5)(vectors, torch.tensor([3]))
    loss.backward()
    assert loss == 0 and not vectors.grad.any()


@pytest.mark.parametrize("margin", [1.0, -1.1])
def test_a_margin_that_is_no_cosine_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=r"loss.margin=.*\[-1, 1\)"):
        C1Loss(margin=margin)
