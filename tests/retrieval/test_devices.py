"""The figures of a device that computes in another order, on one process or several, are the same to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor

from dml import distributed
from dml.retrieval import average_precisions, exact_search, nearest_neighbours, ranking, retrieval_metrics
from dml.retrieval.metrics import _answerable
from dml.retrieval.sets import _lengths
from tests.pretend_device import pretend_gpus
from tests.retrieval.arithmetic import OtherArithmetic
from tests.retrieval.embeddings import clustered, hard_sets, search_by_small_blocks

GPU = torch.device("cuda:0")


@pytest.fixture
def other_device() -> Iterator[torch.device]:
    """A GPU that is not there, and computes otherwise than the CPU."""
    with ExitStack() as stack:
        stack.enter_context(pretend_gpus())
        stack.enter_context(OtherArithmetic())
        yield GPU


def figures(sets: tuple[Tensor, ...], backend: str, **options: int) -> dict[str, float]:
    return dict(retrieval_metrics(*sets, backend=backend, **options))


def test_the_other_device_really_computes_otherwise(other_device: torch.device) -> None:
    x, _ = clustered(200, 5, dim=256)
    here, there = (exact_search(v, v, 9, backend="torch") for v in (x, x.to(other_device)))
    assert there.similarities.device == there.indices.device == other_device
    assert torch.equal(here.indices, there.indices.cpu())
    assert not torch.equal(here.similarities, there.similarities.cpu())


@pytest.mark.parametrize("way", ["lists", "whole gallery", "blocks"])
@pytest.mark.parametrize("backend", ["faiss", "torch", "auto"])
@pytest.mark.parametrize("case", hard_sets())
def test_another_device_finds_the_same_to_the_last_bit(
    case: str, backend: str, way: str, other_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "DEEP", 32 if way == "whole gallery" else 1)
    if way == "blocks":
        search_by_small_blocks(monkeypatch)
    sets = hard_sets()[case]
    there = tuple(part.to(other_device) for part in sets)
    assert figures(there, backend, chunk_size=100) == figures(sets, "faiss")


def test_one_search_by_faiss_moves_a_set_on_a_gpu_to_the_cpu_and_its_result_back(
    other_device: torch.device,
) -> None:
    x, _ = clustered(60, 5)
    for gallery in (None, x.to(other_device)):
        found = nearest_neighbours(x.to(other_device), gallery, 4, backend="faiss")
        expected = nearest_neighbours(x, None if gallery is None else x, 4)
        assert found.indices.device == other_device
        assert torch.equal(found.indices.cpu(), expected.indices)


def test_precisions_of_each_query_are_the_same_and_on_the_cpu(other_device: torch.device) -> None:
    for sets in hard_sets().values():
        found = average_precisions(*(part.to(other_device) for part in sets))
        torch.testing.assert_close(found, average_precisions(*sets), rtol=0, atol=0, equal_nan=True)


def test_more_is_settled_at_a_time_on_a_gpu_where_each_time_it_would_be_waited_for(
    other_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = clustered(3000, 600)
    settled: list[int] = []
    settle = ranking._settled
    monkeypatch.setattr(
        ranking,
        "_settled",
        lambda sets, rows, *rest: settled.append(len(rows)) or settle(sets, rows, *rest),
    )
    here, there = figures((x, y), "torch"), figures((x.to(other_device), y), "torch")
    assert here == there and max(settled[:-1]) == 256 and settled[-1] == there["queries"]


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 64, 100])
def test_lengths_are_the_square_roots_of_exact_sums_rounded_to_float32(dim: int) -> None:
    x = torch.randn(200, dim, generator=torch.Generator().manual_seed(dim))
    exact = [math.sqrt(math.fsum(v * v for v in row)) for row in x.tolist()]
    assert torch.equal(_lengths(x).flatten(), torch.tensor(exact, dtype=torch.float64).float())


def test_a_length_between_two_float32_is_rounded_alike_on_every_device(other_device: torch.device) -> None:
    """The small squares count together, not one after the other, and decide whether the length is rounded up."""
    u, v = 4096, 53  # (u² - v²)² + (2uv)² = (u² + v²)², and u² + v² lies between two float32
    below_resolution = math.sqrt(math.ulp(float((u * u + v * v) ** 2)) / 4)
    x = torch.tensor([[u * u - v * v, 2 * u * v, *[below_resolution] * 62]])
    assert _lengths(x.to(other_device)).tolist() == _lengths(x).tolist() == [[u * u + v * v + 1]]


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_shares_are_of_equal_work_and_leave_out_nothing(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = torch.randint(0, 200, (997,), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    shares = []
    for number in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        shares.append(_answerable(counts)[distributed.deal()])
    assert sorted(torch.cat(shares).tolist()) == counts.nonzero().flatten().tolist()
    work = [int(counts[share].sum()) for share in shares]
    assert max(work) - min(work) <= counts.max()
