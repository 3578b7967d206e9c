import pytest
import torch
from torch import Tensor

from dml.functional.soft_rank import soft_ranks

QUERIES, ITEMS = torch.tensor([0, 0, 2, 3]), torch.tensor([1, 4, 0, 5])


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    similarity = torch.rand(4, 6, generator=generator, dtype=torch.float64)
    return similarity, torch.rand(4, 6, generator=generator) > 0.3


def slow_rank(s: Tensor, q: int, x: int, among: Tensor, temperature: float) -> Tensor:
    ahead = [torch.sigmoid((s[q, z] - s[q, x]) / temperature) for z in range(6) if among[q, z] and z != x]
    return 1 + sum(ahead, torch.zeros((), dtype=s.dtype))


@pytest.mark.parametrize("chunk", [1, 13, 10_000])
def test_they_equal_the_formula_whatever_the_chunk(chunk: int) -> None:
    similarity, among = example()
    ranks = soft_ranks(similarity, QUERIES, ITEMS, among=among, temperature=0.1, chunk=chunk)
    pairs = zip(QUERIES.tolist(), ITEMS.tolist(), strict=True)
    expected = torch.stack([slow_rank(similarity, q, x, among, 0.1) for q, x in pairs])
    torch.testing.assert_close(ranks, expected)


def test_a_cold_rank_is_the_place_in_the_sorted_list() -> None:
    similarity, everyone = example()[0], torch.ones(4, 6, dtype=torch.bool)
    place = similarity.argsort(dim=1, descending=True).argsort(dim=1)[QUERIES, ITEMS] + 1
    ranks = soft_ranks(similarity, QUERIES, ITEMS, among=everyone, temperature=1e-6)
    torch.testing.assert_close(ranks, place.double())


def test_the_gradient_is_exact_across_chunks() -> None:
    similarity, among = example()
    assert torch.autograd.gradcheck(
        lambda s: soft_ranks(s, QUERIES, ITEMS, among=among, temperature=0.1, chunk=13),
        similarity.requires_grad_(),
    )


def test_no_comparison_is_kept_for_the_backward_pass() -> None:
    similarity = torch.rand(64, 64, requires_grad=True)
    queries, items = torch.where(torch.ones(64, 64))
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ranks = soft_ranks(
            similarity,
            queries,
            items,
            among=torch.ones(64, 64, dtype=torch.bool),
            temperature=0.01,
            chunk=4096,
        )
    assert ranks.shape == (64 * 64,) and sum(map(torch.numel, kept.values())) < 64**3 / 8


def test_without_pairs_there_are_no_ranks() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    similarity, among = example()
    assert soft_ranks(similarity, none, none, among=among, temperature=0.1).shape == (0,)
