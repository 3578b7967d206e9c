"""Which items of a ranking are correct, settled exactly: ties count against the model.

The float32 search only proposes candidates; wherever its rounding could matter, the exact similarities of
`dml.retrieval.sets` decide.

Axis letters: Q queries, G gallery items, D embedding dimension, k ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dml.modes import full_precision
from dml.retrieval.backends import BACKENDS, CELLS, Neighbours, at_a_time
from dml.retrieval.sets import GRID, UNIT_TOLERANCE, LabelledSets

__all__ = ["one_thread", "rank", "without_own"]

SPARE = 4  # candidates beyond the last rank that counts, so that near-ties there are seen
DEEP = 32  # queries that count ranks beyond 1/32 of the gallery are ranked on all of it at once


def rank(
    sets: LabelledSets, rows: Tensor, depths: Tensor, *, backend: str, chunk_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, some queries at a time, which of their nearest items are correct, the nearest first.

    The work is done on the device of the sets; rows, depths and what is yielded are on the CPU. rows (n,) are the
    queries to rank, by rising depth, so that none is searched much deeper than it needs; depths (Q,) the last rank
    that counts for each query. Yields query rows (m,) and bool (m, k), with k at least the depth of each of them.
    A row may come twice: the later is right. chunk_size queries are searched at a time.
    """
    device = sets.query.device
    deep = (depths[rows] + SPARE + sets.same) * DEEP > len(sets.gallery)
    unsettled = [rows[deep]]
    for chunk in torch.split(rows[~deep], chunk_size) if not deep.all() else ():
        k = int(depths[chunk].max()) + SPARE + sets.same
        found = BACKENDS[backend](sets.query[chunk.to(device)], sets.gallery, k)
        for part, *neighbours in zip(
            *(torch.split(x, at_a_time(device, k)) for x in (chunk, *found)), strict=True
        ):
            correct, open_rows = _rank_candidates(
                sets, part.to(device), depths[part].to(device), Neighbours(*neighbours)
            )
            yield part, correct.cpu()
            unsettled.append(part[open_rows.cpu()])
    rows = torch.cat(unsettled)
    if len(rows):
        gallery = sets.gallery.double()
        for part in torch.split(rows, min(chunk_size, max(1, CELLS // 2 // len(gallery)))):
            yield part, _rank_whole_gallery(sets, gallery, part.to(device), int(depths[part].max())).cpu()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread on the CPU: in small blocks its threads would only wait, and hinder faiss'."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def _rank_candidates(
    sets: LabelledSets, rows: Tensor, depths: Tensor, found: Neighbours
) -> tuple[Tensor, Tensor]:
    """Rank the found candidates (m, k); the second result (m,) marks rows where they may be too few."""
    similarities, indices = without_own(rows, found) if sets.same else found
    correct = sets.gallery_labels[indices] == sets.query_labels[rows, None]
    doubt = 2 * _search_error(sets.query.shape[1])  # nearer similarities than this may be in the wrong order
    open_rows = similarities.gather(1, depths[:, None] - 1)[:, 0] - similarities[:, -1] <= doubt
    doubtful = _doubtful(similarities, correct, doubt) & ~open_rows[:, None]
    again = doubtful.any(dim=1).nonzero().flatten()
    if len(again):
        settled = similarities.double()
        for pairs in torch.split(doubtful.nonzero(), at_a_time(sets.query.device, sets.query.shape[1])):
            row, column = pairs.unbind(dim=1)
            x, y = sets.query[rows[row]].double(), sets.gallery[indices[row, column]]
            settled[row, column] = x.mul_(y).sum(dim=1)
        correct[again] = _wrong_first(settled[again], correct[again], correct.shape[1])
    return correct, open_rows


def without_own(rows: Tensor, found: Neighbours) -> Neighbours:
    """Remove each query's own entry by its index; where the list does not hold it, the last one goes."""
    if torch.equal(found.indices[:, 0], rows):  # as a rule it comes first
        return Neighbours(*(x[:, 1:] for x in found))
    keep = found.indices != rows[:, None]
    keep[keep.all(dim=1), -1] = False
    return Neighbours(*(x[keep].view(len(rows), -1) for x in found))


def _search_error(embedding_dim: int) -> float:
    """Bound the error of a float32 dot product of two unit vectors, in any order of summation.

    |error| <= D u |x|·|y| / (1 - D u), u = 2^-24. Source: Higham, Accuracy and Stability of Numerical
    Algorithms, section 3.1.
    """
    rounding = embedding_dim * 2.0**-24
    return rounding / (1 - rounding) * (1 + UNIT_TOLERANCE) ** 2


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
