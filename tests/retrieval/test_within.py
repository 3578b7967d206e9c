"""Blocks that serve both sides: what they keep, and that they find what lists of a fixed length find, to the bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dml.retrieval import query_scores, ranking, within
from dml.retrieval.sets import correct_items, labelled_sets
from dml.retrieval.within import Candidates, candidates_within
from tests.retrieval.embeddings import clustered, coarse, search_by_small_blocks


def scores(x: Tensor, y: Tensor, *, by_blocks: bool) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "DEEP", 1)
        if by_blocks:
            search_by_small_blocks(patch)
        return torch.stack(list(query_scores(x, y, recall_at=(1, 3)).values()))


def search(x: Tensor, y: Tensor) -> tuple[Candidates, Tensor]:
    """The candidates for all queries, and the exact similarities (N, N), -1 on the diagonal."""
    sets = labelled_sets(x, y, None, None, device=torch.device("cpu"))
    counts = correct_items(sets)
    found = candidates_within(sets, counts.nonzero().flatten(), counts.clamp(min=4), shared=False)
    return found, (sets.query.double() @ sets.query.double().T).fill_diagonal_(-1)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(12, 200),
    classes=st.integers(1, 60),
    seed=st.integers(0, 10**6),
    ties=st.booleans(),
    kept=st.sampled_from([100, 2**24]),
)
def test_every_query_scores_as_by_lists_to_the_last_bit(
    count: int, classes: int, seed: int, ties: bool, kept: int
) -> None:
    x, y = coarse(count, classes, seed=seed) if ties else clustered(count, classes, seed=seed)
    if (y.bincount() < 2).all():
        return
    expected = scores(x, y, by_blocks=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(within, "KEPT", kept)
        found = scores(x, y, by_blocks=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("count", "classes"), [(2048, 400), (3001, 60), (3001, 2000)])
def test_a_set_large_enough_is_searched_so_and_scores_the_same(
    count: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = clustered(count, classes, dim=64)
    by_blocks = query_scores(x, y)
    monkeypatch.setattr(ranking, "FEWEST", count + 1)
    for name, values in query_scores(x, y).items():
        torch.testing.assert_close(by_blocks[name], values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kept", [2**24, 2000])
def test_what_reaches_the_floor_is_kept_once_and_in_order(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    search_by_small_blocks(monkeypatch)
    monkeypatch.setattr(within, "KEPT", kept)
    x, y = clustered(150, 30)
    found, exact = search(x, y)
    for query in (y.bincount()[y] > 1).nonzero().flatten().tolist():
        first, last = found.starts[query : query + 2].tolist()
        similarities, items = (part[0, : last - first] for part in found.first(torch.tensor([query]), 150))
        assert len(set(items.tolist())) == len(items) and query not in items
        torch.testing.assert_close(similarities.double(), exact[query, items], rtol=0, atol=found.doubt)
        assert (similarities.diff() <= 0).all()
        missing = exact[query].scatter(0, items, -1.0)
        if found.floors[query] > -2:
            assert missing.max() < found.floors[query] + found.doubt
        else:  # nothing that is missing counts
            assert missing.max() < exact[query][(y == y[query]) & (torch.arange(150) != query)].min()


def test_a_floor_that_is_too_high_costs_a_second_search_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = clustered(120, 20)
    expected = scores(x, y, by_blocks=False)
    monkeypatch.setattr(
        within._Search, "reached_in", lambda search, sampled, rows: torch.full((len(rows),), 0.999)
    )
    torch.testing.assert_close(scores(x, y, by_blocks=True), expected, rtol=0, atol=0, equal_nan=True)


def test_of_a_collapsed_set_nothing_is_kept() -> None:
    x, y = clustered(1, 1)[0].repeat(2500, 1), torch.arange(2500) % 500
    found, _ = search(x, y)
    assert len(found.pairs) == 0 and (found.floors == torch.inf).all()


@pytest.mark.parametrize(("count", "queries"), [(100, 100), (100, 30), (24, 24), (25, 1)])
def test_blocks_meet_each_query_with_each_item_once(count: int, queries: int) -> None:
    x, y = clustered(count, 5)
    sets = labelled_sets(x, y, None, None, device=torch.device("cpu"))
    search = within._Search(sets, torch.arange(count), torch.full((count,), 4), shared=False)
    met = [
        {i, j}
        for a, b in search.blocks(queries, 24)
        for i, j in itertools.product(range(count)[a], range(count)[b])
        if a != b or i < j
    ]
    wanted = [{i, j} for i in range(queries) for j in range(i + 1, count)]
    assert all(met.count(pair) == 1 for pair in wanted[:: max(1, len(wanted) // 100)])
    assert len(met) <= len(wanted) + 24 * count


@pytest.mark.parametrize("count", [2, 3, 2**10, 2**20, 2**22])
def test_a_pair_fits_its_number_and_comes_back(count: int) -> None:
    code = within.Code.for_items(count)
    queries = torch.tensor([0, count - 1])
    similarities = torch.tensor([-1.0, -0.3, 0.0, 0.7, 1.0, 1.0000001])
    pairs = (
        (queries[:, None] << code.item + code.similarity)
        + code.falling(similarities)
        + queries.flip(0)[:, None]
    )
    assert (pairs >= 0).all() and torch.equal(
        pairs >> code.item + code.similarity, queries[:, None].expand_as(pairs)
    )
    assert torch.equal(code.items(pairs), queries.flip(0)[:, None].expand_as(pairs))
    assert (code.similarities(pairs) - similarities).abs().max() <= code.step
    assert (pairs.diff(dim=1) <= 0).all()
