"""Which items of a ranking are correct, settled exactly: ties count against the model.

The float32 search only proposes candidates; wherever its rounding could matter, the exact similarities of
`dml.retrieval.sets` decide.

Axis letters: Q queries, G gallery items, D embedding dimension, k ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dml.distributed import deal
from dml.modes import full_precision
from dml.retrieval.backends import BACKENDS, CELLS, Neighbours, at_a_time
from dml.retrieval.sets import GRID, LabelledSets, search_error
from dml.retrieval.threads import in_threads
from dml.retrieval.within import candidates_within

__all__ = ["rank", "without_own"]

SPARE = 4  # candidates beyond the last rank that counts, so that near-ties there are seen
FEWEST, MOST = 2**11, 2**22  # items of a set that is searched in itself by blocks that serve both sides
DEEP = 32  # queries that count ranks beyond 1/32 of the gallery are ranked on all of it at once


def rank(
    sets: LabelledSets, rows: Tensor, depths: Tensor, *, backend: str, chunk_size: int, shared: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, some queries at a time, which of their nearest items are correct, the nearest first.

    The work is done on the device of the sets; rows, depths and what is yielded are on the CPU. rows (n,) are the
    queries to rank, by rising depth, so that none is searched much deeper than it needs; depths (Q,) the last rank
    that counts for each query. Yields query rows (m,) and bool (m, k), with k at least the depth of each of them.
    A row may come twice: the later is right. chunk_size queries are searched at a time. shared: the processes of the
    run share the search, and each one ranks those that `deal` gives it.
    """
    deep = (depths[rows] + SPARE + sets.same) * DEEP > len(sets.gallery)
    own = deal() if shared else slice(None)
    listed, unsettled = rows[own][~deep[own]], [rows[own][deep[own]]]
    if sets.same and FEWEST <= len(sets.gallery) <= MOST and not deep.all():
        open_rows = []
        for part, correct, is_open in _rank_within(sets, rows[~deep], listed, depths, shared):
            yield part, correct
            open_rows.append(part[is_open])
        listed = torch.cat(open_rows) if open_rows else listed
    for chunk in torch.split(listed, chunk_size) if len(listed) else ():
        k = int(depths[chunk].max()) + SPARE + sets.same
        for part, correct, is_open in _rank_lists(sets, chunk, depths, k, BACKENDS[backend]):
            yield part, correct
            unsettled.append(part[is_open])
    rows = torch.cat(unsettled)
    if len(rows):
        gallery = sets.gallery.double()
        for part in torch.split(rows, min(chunk_size, max(1, CELLS // 2 // len(gallery)))):
            yield (
                part,
                _rank_whole_gallery(sets, gallery, part.to(sets.query.device), int(depths[part].max())).cpu(),
            )


def _rank_within(
    sets: LabelledSets, rows: Tensor, own: Tensor, depths: Tensor, shared: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Search a set in itself for some queries, and rank the own ones of them: as `_rank_lists`."""
    device = sets.query.device
    enough = (depths + SPARE).to(device)
    found = candidates_within(sets, rows.to(device), enough, shared=shared)

    def ranked(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        here, depth = part.to(device), depths[part].to(device)
        neighbours = Neighbours(*found.first(here, int(depth.max()) + SPARE))
        least = torch.maximum(neighbours.similarities[:, -1], found.floors[here])
        is_open = _too_few(neighbours.similarities, depth, least, found.doubt)
        return part, _settled(sets, here, neighbours, is_open, found.doubt).cpu(), is_open.cpu()

    yield from in_threads(
        ranked,
        torch.split(own, at_a_time(device, int(depths[own].max()) + SPARE)) if len(own) else (),
        device,
    )


def _rank_lists(
    sets: LabelledSets,
    rows: Tensor,
    depths: Tensor,
    k: int,
    search: Callable[[Tensor, Tensor, int], Neighbours],
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Search for lists of k and rank them: rows (m,), what is correct (m, k), and where the lists may be too short."""
    device, doubt = sets.query.device, 2 * search_error(sets.query.shape[1])
    lists = search(sets.query[rows.to(device)], sets.gallery, k)

    def ranked(some: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        part, neighbours = some[0], Neighbours(*some[1:])
        here, depth = part.to(device), depths[part].to(device)
        if sets.same:
            neighbours = without_own(here, neighbours)
        is_open = _too_few(neighbours.similarities, depth, neighbours.similarities[:, -1], doubt)
        return part, _settled(sets, here, neighbours, is_open, doubt).cpu(), is_open.cpu()

    parts = zip(*(torch.split(x, at_a_time(device, k)) for x in (rows, *lists)), strict=True)
    yield from in_threads(ranked, parts, device)


def _too_few(similarities: Tensor, depths: Tensor, least: Tensor, doubt: float) -> Tensor:
    """Whether an item that was not found, and is no more similar than the least, may belong up to the depth: (m,)."""
    return similarities.gather(1, depths[:, None] - 1)[:, 0] - least <= doubt


def _settled(sets: LabelledSets, rows: Tensor, found: Neighbours, is_open: Tensor, doubt: float) -> Tensor:
    """Which of the items found (m, k) are correct, in their exact order; rows that are open are left as they are."""
    similarities, indices = found
    correct = (sets.gallery_labels[indices] == sets.query_labels[rows, None]) & (indices >= 0)
    doubtful = _doubtful(similarities, correct, doubt) & ~is_open[:, None]
    again = doubtful.any(dim=1).nonzero().flatten()
    if len(again):
        settled = similarities.double()
        for pairs in torch.split(doubtful.nonzero(), at_a_time(sets.query.device, sets.query.shape[1])):
            row, column = pairs.unbind(dim=1)
            x, y = sets.query[rows[row]].double(), sets.gallery[indices[row, column]]
            settled[row, column] = x.mul_(y).sum(dim=1)
        correct[again] = _wrong_first(settled[again], correct[again], correct.shape[1])
    return correct


def without_own(rows: Tensor, found: Neighbours) -> Neighbours:
    """Remove each query's own entry by its index; where the list does not hold it, the last one goes."""
    if torch.equal(found.indices[:, 0], rows):  # as a rule it comes first
        return Neighbours(*(x[:, 1:] for x in found))
    keep = found.indices != rows[:, None]
    keep[keep.all(dim=1), -1] = False
    return Neighbours(*(x[keep].view(len(rows), -1) for x in found))


def _doubtful(similarities: Tensor, correct: Tensor, doubt: float) -> Tensor:
    """Mark (m, k) the runs of items, each within `doubt` of the next, that hold right and wrong ones.

    All others are far enough from any item of the other kind to keep their places.
    """
    close = similarities[:, :-1] - similarities[:, 1:] <= doubt
    starts = torch.ones_like(correct)
    starts[:, 1:] = ~close
    run = starts.flatten().cumsum(0).view_as(starts) - 1
    mixed = torch.zeros(starts.numel(), dtype=torch.bool, device=starts.device)
    mixed[run[:, 1:][close & (correct[:, :-1] != correct[:, 1:])]] = True
    return mixed[run]


def _rank_whole_gallery(sets: LabelledSets, gallery: Tensor, rows: Tensor, k: int) -> Tensor:
    """Rank all of the gallery, given in float64, by exact similarities: (m, k)."""
    with full_precision(gallery):
        similarities = sets.query[rows].double() @ gallery.T
    if sets.same:
        similarities.scatter_(1, rows[:, None], -math.inf)
    return _wrong_first(similarities, sets.gallery_labels == sets.query_labels[rows, None], k)


def _wrong_first(similarities: Tensor, correct: Tensor, k: int) -> Tensor:
    """Return `correct` (m, n) in falling order of similarity up to rank k, the wrong ones first among equals.

    Exact similarities are multiples of GRID²: half of that lifts a wrong item above its equals and no others.
    """
    lifted = similarities.add(~correct, alpha=GRID**2 / 2)
    return correct.gather(1, lifted.topk(k, dim=1).indices)
