"""What a set searched in itself has to look at: each block of similarities serves its rows and its columns.

The metrics of a query need the items of other classes that are at least as similar as those of its own, not a list of
a fixed length. So each query gets a floor before the search, and one pass over half of the products keeps what lies
above it: as a rule a few items. The floor is the least similarity within its class, or, where that is low, one that
enough items of a random sample reach. Similarities are rounded here; `dml.retrieval.ranking` settles the ranks, and
searches again for a query whose floor proves too high.

A pair is kept as one int64: query, falling similarity, item. So the sorted pairs are the rankings.

Axis letters: N items, D embedding dimension, n queries, M pairs kept.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dml.distributed import deal, gather_numbers, gather_rows, share, world_size
from dml.modes import full_precision
from dml.retrieval.backends import CELLS, no_tf32
from dml.retrieval.sets import LabelledSets, search_error
from dml.retrieval.threads import in_threads

__all__ = ["Candidates", "candidates_within"]

SAMPLE = 1 / 24  # of the set, within these bounds
SAMPLES = 512, 4096
TILE = 1024  # rows and columns of a block on a CPU: it stays in the cache
CROWD = 4  # so many times as many items as expected at one similarity are too many to keep
KEPT = 2**24  # pairs kept before the least similar of each query are dropped


class Code(NamedTuple):
    """How a pair is kept: bits of an item, and of a similarity between -1 and 1."""

    item: int
    similarity: int

    @classmethod
    def for_items(cls, count: int) -> Code:
        bits = max(1, (count - 1).bit_length())
        return cls(bits, min(24, 62 - 2 * bits))

    @property
    def step(self) -> float:
        """Between one similarity and the next."""
        return 2.0 ** (1 - self.similarity)

    def query(self, queries: Tensor) -> Tensor:
        """Queries in their place of a pair."""
        return queries << self.item + self.similarity

    def falling(self, similarities: Tensor) -> Tensor:
        """float32 to int64 in its place of a pair: the larger, the less similar."""
        steps = ((1 - similarities) / self.step).round_().clamp_(0, 2**self.similarity - 1)
        return steps.long().bitwise_left_shift_(self.item)

    def similarities(self, pairs: Tensor) -> Tensor:
        steps = pairs >> self.item & (1 << self.similarity) - 1
        return (1 - steps * self.step).float()

    def items(self, pairs: Tensor) -> Tensor:
        return pairs & (1 << self.item) - 1


class Candidates(NamedTuple):
    """The items that may count for each query, the most similar first.

    pairs:  (M,) int64, sorted.
    starts: (N + 1,) int64, where those of each query begin.
    floors: (N,) float32, above every item that is missing; -inf where none of them counts.
    doubt:  nearer similarities than this may be in the wrong order.
    """

    pairs: Tensor
    starts: Tensor
    floors: Tensor
    doubt: float
    code: Code

    def first(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Similarities (m, k) float32 and items (m, k) of some queries; -inf and -1 where there are fewer."""
        if len(self.pairs) == 0:
            return self.floors.new_full((len(rows), k), -math.inf), self.starts.new_full((len(rows), k), -1)
        places = self.starts[rows, None] + torch.arange(k, device=rows.device)
        missing = places >= self.starts[rows + 1, None]
        pairs = self.pairs[places.clamp_(max=len(self.pairs) - 1)]
        return (
            self.code.similarities(pairs).masked_fill_(missing, -math.inf),
            self.code.items(pairs).masked_fill_(missing, -1),
        )


def candidates_within(sets: LabelledSets, rows: Tensor, enough: Tensor, *, shared: bool) -> Candidates:
    """Search for some queries of a set that is its own gallery.

    rows: (n,) int64, the queries. enough: (N,) int64, how many items are enough for each of them.
    shared: the processes of the run share the work, and all of them get the result.
    """
    with full_precision(sets.query), no_tf32():
        return _Search(sets, rows, enough, shared).candidates()


class _Search:
    """A search under way.

    floors:  (N,) float32, what an item must reach to be kept for a query; inf for what is no query.
    certain: (N,) bool, where the floor lies below all items of the query's class.
    """

    def __init__(self, sets: LabelledSets, rows: Tensor, enough: Tensor, shared: bool) -> None:
        self.x, self.labels = sets.query, sets.query_labels
        self.rows, self.enough, self.shared = rows, enough, shared
        self.code = Code.for_items(len(self.x))
        self.doubt = 2 * (search_error(self.x.shape[1]) + self.code.step)
        self.floors = self.x.new_full((len(self.x),), math.inf)
        self.floors[rows] = self.least_of_own() - self.doubt
        reached = self.reached_by_enough()
        self.certain = torch.ones_like(self.floors, dtype=torch.bool)
        self.certain[rows] = self.floors[rows] >= reached
        self.floors[rows] = torch.maximum(reached, self.floors[rows])

    def reached_by_enough(self) -> Tensor:
        """A similarity that enough items reach, for each query but about one in a hundred: (n,), from a sample.

        inf where far more reach it, as many do in a collapsed model: such a query is left to lists of a fixed length.
        """
        count = len(self.x)
        any_seed = torch.Generator().manual_seed(0)  # gives the same metrics
        sampled = torch.randperm(count, generator=any_seed)[
            : max(SAMPLES[0], min(SAMPLES[1], int(count * SAMPLE)))
        ].to(self.x.device)
        own = self.rows[share(len(self.rows))] if self.shared else self.rows
        parts = torch.split(own, TILE) if len(own) else ()
        found = in_threads(partial(self.reached_in, sampled), parts, own.device)
        reached = torch.cat([self.floors[:0], *found])  # a process may have no query of its own
        return gather_rows(reached, gather_numbers(len(own))[:, 0].tolist()) if self.shared else reached

    def reached_in(self, sampled: Tensor, rows: Tensor) -> Tensor:
        expected = int(self.enough[rows].max()) * len(sampled) / len(self.x)
        k = min(len(sampled), math.ceil(expected + 2.3 * math.sqrt(expected) + 1))
        products = self.x[rows] @ self.x[sampled].T
        products.masked_fill_(rows[:, None] == sampled, -math.inf)
        products = _sorted(products)
        reached, crowd = products[:, -k], products[:, -min(len(sampled), CROWD * k)]
        return reached.masked_fill(crowd >= torch.maximum(reached, self.floors[rows]) - self.doubt, math.inf)

    def least_of_own(self) -> Tensor:
        """The least similarity of each query to an item of its class, (n,)."""
        order = self.labels[self.rows].argsort(stable=True)
        _, sizes = torch.unique_consecutive(self.labels[self.rows[order]], return_counts=True)
        begins = sizes.cumsum(0) - sizes
        least = self.x.new_empty(len(self.rows))
        for size in sizes.unique().tolist():
            for part in torch.split(begins[sizes == size], max(1, CELLS // 16 // (size * self.x.shape[1]))):
                members = order[part[:, None] + torch.arange(size, device=order.device)]
                x = self.x[self.rows[members]]
                some = torch.split(x, max(1, CELLS // 16 // (len(part) * size)), dim=1)
                least[members] = torch.cat([torch.bmm(y, x.mT).amin(dim=2) for y in some], dim=1)
        return least

    def candidates(self) -> Candidates:
        kept = [torch.empty(0, dtype=torch.int64, device=self.x.device)]
        count = 0
        for pairs in self.pairs():
            kept.append(pairs)
            count += len(pairs)
            if count > KEPT:
                kept = [self.best_of(_sorted(torch.cat(kept)))]
                count = len(kept[0])
        pairs = torch.cat(kept)
        if self.shared:
            pairs = gather_rows(pairs, gather_numbers(len(pairs))[:, 0].tolist())
            self.floors = gather_rows(self.floors[None], [1] * world_size()).amax(dim=0)
            certain = gather_rows(self.certain[None].int(), [1] * world_size())  # gloo may not take a bool
            self.certain = certain.all(dim=0)
        pairs = _sorted(pairs)
        floors = torch.where(self.certain, -math.inf, self.floors)
        return Candidates(pairs, self.starts(pairs), floors, self.doubt, self.code)

    def starts(self, pairs: Tensor) -> Tensor:
        queries = torch.arange(len(self.x) + 1, device=pairs.device)
        return torch.searchsorted(pairs, self.code.query(queries))

    def best_of(self, pairs: Tensor) -> Tensor:
        """The first of sorted pairs that are enough for each query; its floor rises to the last of them."""
        starts = self.starts(pairs)
        counts = starts.diff()
        crowded = (counts > self.enough).nonzero().flatten()
        last = pairs[starts[crowded] + self.enough[crowded] - 1]
        self.floors[crowded] = torch.maximum(self.floors[crowded], self.code.similarities(last))
        self.certain[crowded] = False
        rank = torch.arange(len(pairs), device=pairs.device) - starts[:-1].repeat_interleave(counts)
        return pairs[rank < self.enough.repeat_interleave(counts)]

    def pairs(self) -> Iterator[Tensor]:
        """The pairs of a query and an item that reaches its floor, those of a block together."""
        side = TILE if self.x.device.type == "cpu" else 4 * TILE
        self.order = self.floors.argsort()  # like with like: one floor does for a block; no queries come last
        self.ordered = self.x[self.order]
        blocks = list(self.blocks(int((self.floors < math.inf).sum()), side))
        here = threading.local()

        def of_block(block: tuple[slice, slice]) -> Tensor:
            if not hasattr(here, "memory"):
                here.memory = self.x.new_empty(side * side)  # used again: it stays in the cache
            return self.pairs_of_block(*block, here.memory)

        return in_threads(of_block, blocks[deal()] if self.shared else blocks, self.x.device)

    def pairs_of_block(self, a: slice, b: slice, memory: Tensor) -> Tensor:
        x, y, order = self.ordered[a], self.ordered[b], (self.order[a], self.order[b])
        products = torch.mm(x, y.T, out=memory[: len(x) * len(y)].view(len(x), len(y)))
        if a == b:
            products.fill_diagonal_(-math.inf)
        floors = self.floors[order[0]], self.floors[order[1]]
        hits = _at_least(products, min(part.min().item() for part in floors))
        similarities = products.view(-1).index_select(0, hits)
        falling = self.code.falling(similarities)
        places = hits // len(y), hits % len(y)
        pairs = []
        for one, other in ((0, 1), (1, 0))[: 1 if a == b else 2]:
            reach = _set(similarities >= floors[one].index_select(0, places[one]))
            query, item = (order[s].index_select(0, places[s].index_select(0, reach)) for s in (one, other))
            pairs.append(self.code.query(query) + falling.index_select(0, reach) + item)
        return torch.cat(pairs)

    def blocks(self, queries: int, side: int) -> Iterator[tuple[slice, slice]]:
        """The blocks of half of all products, but for those of two items beyond the queries."""
        starts = range(0, len(self.x), side)
        for place, a in enumerate(starts):
            if a < queries:
                yield from ((slice(a, a + side), slice(b, b + side)) for b in starts[place:])


def _at_least(products: Tensor, floor: float) -> Tensor:
    """The places (h,) in a flattened block that reach a floor; on a CPU numpy scans it fastest."""
    if products.device.type != "cpu":
        return _set(products >= floor)
    return torch.from_numpy(np.flatnonzero(products.numpy() >= floor))


def _set(mask: Tensor) -> Tensor:
    if mask.device.type != "cpu":
        return mask.flatten().nonzero().flatten()
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def _sorted(pairs: Tensor) -> Tensor:
    """Sorted along the last axis; on a CPU numpy is many times as fast."""
    if pairs.device.type != "cpu":
        return pairs.sort().values
    return torch.from_numpy(np.sort(pairs.numpy()))
