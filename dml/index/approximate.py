"""A search that looks at a part of the vectors only, and says how many of the true neighbours it finds.

Vectors are put into lists by the nearest of some centres, and a query looks into the lists of the centres nearest to
it: as many as it takes to find most of the true ten nearest neighbours of queries that were held out. What is found has
exact scores and their order, so it is the list that may lack something, and never its order. Later rows are searched
exactly, until they are more than a tenth: then all of this is made anew.

Source: Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011, section 4, without the
quantisation of residuals; by faiss.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dml.errors import FileError, InputError, UnavailableError, user_files
from dml.index.layout import IndexInfo
from dml.index.searching import Nearest, dot_products, search_blocks
from dml.index.store import Store
from dml.randomness import numpy_generator

__all__ = ["FEWEST", "Approximate", "Recall", "is_outgrown", "make_approximate", "open_approximate"]

FEWEST = 1000  # images; of fewer an exact search is no slower
ENOUGH = 0.95  # of the true neighbours are to be found
NEIGHBOURS = 10
MOST_QUERIES = 1000
PER_CENTRE = 64  # vectors that its place is learnt from
SPARE = 2  # times as many candidates as are asked for, as float32 orders them
GROWTH = 0.1  # share of later rows from which on it is made anew


@dataclass(frozen=True, kw_only=True)
class Recall:
    """How much an approximate search finds, as index.json keeps it.

    recall:  share of the true ten nearest neighbours that were found.
    queries: held-out images that it was measured on.
    rows:    of vectors.npy that are in the lists; later ones are searched exactly.
    lists, probes: how many there are, and how many a query looks into.
    """

    recall: float
    queries: int
    rows: int
    lists: int
    probes: int


class Approximate:
    """The lists of an index, opened; they stay on the disk."""

    def __init__(self, lists: Any, recall: Recall) -> None:
        self._lists, self.recall = lists, recall

    def search(
        self, store: Store, queries: NDArray[np.float32], k: int, *, leave_out: NDArray[np.int64]
    ) -> Nearest:
        """As search_blocks, with the scores and the order of the exact search; whom it finds too few for is exact."""
        later = store.blocks(first=self.recall.rows)
        best = search_blocks(queries, later, k, leave_out=leave_out)
        found = self._candidates(queries, k, leave_out)
        for number, rows in enumerate(found):
            rows = rows[rows >= 0]
            exact = dot_products(
                queries[number : number + 1],
                store.vectors_of(rows),
                np.zeros(len(rows), np.int64),
                np.arange(len(rows)),
            )
            scores = np.concatenate([best.scores[number], exact])
            together = np.concatenate([best.rows[number], rows])
            order = np.lexsort([together, -scores])[:k]
            best.scores[number], best.rows[number] = scores[order], together[order]
        short = np.flatnonzero((best.rows < 0).any(axis=1))
        if len(short) and store.rows - len(leave_out) > 0:
            exactly = search_blocks(queries[short], store.blocks(), k, leave_out=leave_out)
            best.scores[short], best.rows[short] = exactly
        return best

    def _candidates(
        self, queries: NDArray[np.float32], k: int, leave_out: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return _look(self._lists, queries, SPARE * k, self.recall.probes, self.recall.rows, leave_out)


def make_approximate(store: Store) -> Recall:
    """Put the vectors of an index into lists, keep these beside it, and measure what they find.

    The queries are images that no list was made from; they are put into the lists afterwards.

    Raises:
        InputError: there are too few images for it to be of use.
        UnavailableError: faiss cannot be imported.
        FileError: the disk is full, or whatever else the system says; there is no approximate search then.
    """
    if len(store) < FEWEST:
        raise InputError(
            f"{store.folder} has {len(store):,} images, and an approximate search is for {FEWEST:,} or more: the exact "
            "one is as fast; leave out --approximate"
        )
    faiss = _faiss()
    there = np.setdiff1d(np.arange(store.rows), store.deleted)
    generator = numpy_generator("approximate", store.rows)
    held = np.sort(generator.choice(there, min(MOST_QUERIES, len(there) // 10), replace=False))
    rest = np.setdiff1d(there, held)
    count = max(1, min(round(4 * math.sqrt(len(rest))), len(rest) // PER_CENTRE))
    learnt = np.sort(generator.choice(rest, min(len(rest), PER_CENTRE * count), replace=False))
    centres = faiss.IndexFlatIP(store.info.dimension)
    lists = faiss.IndexIVFFlat(centres, store.info.dimension, count, faiss.METRIC_INNER_PRODUCT)
    lists.cp.seed = 1
    lists.train(store.vectors_of(learnt))
    _put(lists, store, rest)
    recall = _measure(lists, store, held, np.union1d(store.deleted, held))
    _put(lists, store, held)
    with user_files(f"writing {store.folder.approximate}"):
        partial = Path(f"{store.folder.approximate}.partial")
        partial.unlink(missing_ok=True)
        try:
            faiss.write_index(lists, str(partial))
        except RuntimeError as error:
            partial.unlink(missing_ok=True)
            raise FileError(
                f"{store.folder.approximate} cannot be written: {error}; mend that and start again, the index is whole "
                "without it"
            ) from error
        partial.replace(store.folder.approximate)
    return recall


def open_approximate(store: Store) -> Approximate | None:
    """What was made for an index as it is; None if nothing was, or something else is there since."""
    recall = recall_of(store.info)
    if recall is None or not store.folder.approximate.is_file():
        return None
    faiss = _faiss()
    try:
        lists = faiss.read_index(str(store.folder.approximate), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise InputError(
            f"{store.folder.approximate} is damaged ({error}): remove it, and make it again by `dml index build`; "
            "`dml search --exact` needs none"
        ) from error
    fits = lists.d == store.info.dimension and lists.nlist == recall.lists and recall.rows <= store.rows
    return Approximate(lists, recall) if fits else None


def recall_of(info: IndexInfo) -> Recall | None:
    """What index.json says of the approximate search."""
    if info.approximate is None:
        return None
    return Recall(**{field.name: info.approximate[field.name] for field in fields(Recall)})


def is_outgrown(info: IndexInfo, rows: int) -> bool:
    """Whether so much was added since that it has to be made and measured anew."""
    recall = recall_of(info)
    return recall is not None and rows - recall.rows > GROWTH * recall.rows


def _put(lists: Any, store: Store, rows: NDArray[np.int64]) -> None:
    for start, vectors in store.blocks():
        low, high = np.searchsorted(rows, [start, start + len(vectors)])
        part = rows[low:high]
        if len(part):
            lists.add_with_ids(np.ascontiguousarray(vectors[part - start]), part)


def _measure(lists: Any, store: Store, held: NDArray[np.int64], leave_out: NDArray[np.int64]) -> Recall:
    """The fewest probes that find enough, doubled until they do, and what they find."""
    queries = store.vectors_of(held)
    k = min(NEIGHBOURS, store.rows - len(leave_out))
    least = search_blocks(queries, store.blocks(), k, leave_out=leave_out).scores[:, -1:]
    probes = 1
    while True:
        rows = _look(lists, queries, SPARE * k, probes, store.rows, leave_out)
        number, place = np.nonzero(rows >= 0)
        found = store.vectors_of(rows[number, place])
        scores = dot_products(queries, found, number, np.arange(len(found)))
        right = np.bincount(number[scores >= least[number, 0]], minlength=len(queries))
        recall = float(np.minimum(right, k).mean() / k)
        if recall >= ENOUGH or probes >= lists.nlist:
            return Recall(
                recall=recall, queries=len(held), rows=store.rows, lists=int(lists.nlist), probes=probes
            )
        probes = min(2 * probes, lists.nlist)


def _look(
    lists: Any, queries: NDArray[np.float32], k: int, probes: int, count: int, leave_out: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows (Q, k) that the lists give, -1 where there are no more; none of those that are left out."""
    faiss = _faiss()
    allowed = np.ones(count, bool)
    allowed[leave_out[leave_out < count]] = False
    bits = np.packbits(allowed, bitorder="little")
    wanted = faiss.IDSelectorBitmap(bits)
    options = faiss.SearchParametersIVF(nprobe=probes, sel=wanted)
    search = getattr(
        lists, "search_numpy", lists.search
    )  # faiss.contrib.torch_utils has put one without params before it
    rows: NDArray[np.int64] = search(queries, k, params=options)[1]
    return rows


def _faiss() -> Any:
    logging.getLogger("faiss").setLevel(logging.WARNING)
    try:
        import faiss
    except ImportError as error:
        raise UnavailableError(
            f"an approximate search needs faiss, which cannot be imported ({error}): pip install faiss-cpu, or search "
            "by --exact"
        ) from error
    return faiss
