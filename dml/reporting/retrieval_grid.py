"""A figure of queries and what was found for each: right ones in a thin green frame, wrong ones in a dashed red one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from dml.assembly import build_data, build_evaluator
from dml.config import TrainConfig, build
from dml.data import Records, Splits
from dml.devices import choose_device
from dml.errors import InputError, MissingFileError
from dml.overrides import resume_command
from dml.reporting.embeddings import read_embeddings
from dml.reporting.figures import check_rows, fit_name, hide_ticks
from dml.reporting.queries import ORDERS, QueryRanking, nearest_right, order_queries, rank_queries
from dml.runs import located_config, trained_model

__all__ = ["Found", "Query", "draw_retrieval_grid", "retrieval_grid_of_run"]

MOST_NEIGHBOURS = 20
Preprocess = Callable[[NDArray[np.uint8]], Tensor]
RIGHT, WRONG = "#1b7f3b", "#c8281e"


class Found(NamedTuple):
    """An item of the gallery: pixels (H, W, 3) uint8, name of its class, similarity, whether that is the query's class.

    rank: 1 for the nearest.
    """

    pixels: NDArray[np.uint8]
    name: str
    similarity: float
    right: bool
    rank: int


class Query(NamedTuple):
    """A row: pixels (H, W, 3) uint8, the name of its class, average precision up to rank R, neighbours by nearness.

    missed: the nearest right one, if it is not among the neighbours.
    """

    pixels: NDArray[np.uint8]
    name: str
    average_precision: float
    neighbours: Sequence[Found]
    missed: Found | None


def retrieval_grid_of_run(
    folder: str | Path,
    *,
    count: int,
    neighbours: int,
    order: str,
    seed: int,
    checkpoint: str,
    data: str | None,
    device: str | None,
    trust: Sequence[str] = (),
) -> Figure:
    """Draw test queries of a run and what it finds for them.

    The embeddings are those that the run stored, or, of another checkpoint than ``best``, are computed.

    Args:
        folder: a run folder.
        count: queries; fewer if the set has fewer.
        neighbours: of each query.
        order: ``hardest``, ``easiest`` or ``random``; see `order_queries`.
        checkpoint, data, device, trust: as in `evaluate_run`.

    Raises:
        MissingFileError: the run, its checkpoint, its embeddings or its data set is not there.
        InputError: a number or an order that is not accepted, or embeddings of other images than the data set has.
    """
    check_rows(count)
    if not 1 <= neighbours <= MOST_NEIGHBOURS:
        raise InputError(f"neighbours={neighbours}: a row has 1 to {MOST_NEIGHBOURS}")
    if order not in ORDERS:
        raise InputError(f"order={order}; accepted: {', '.join(ORDERS)}")
    cfg = located_config(folder, data=data, device=device, trust=trust)
    splits = build_data(cfg)
    test = splits.test
    if test is None:
        raise InputError(f"{folder} was trained on all classes, it has no test images: name a run that has")
    stored = checkpoint == "best"
    vectors = _stored(Path(folder), test) if stored else _embed(cfg, folder, splits, test, checkpoint)
    ranking = rank_queries(vectors, test.labels, test.is_query, neighbours)
    preprocess = build(cfg.transform.evaluation)
    chosen = order_queries(ranking.average_precision, order, seed=seed)[:count]
    return draw_retrieval_grid([_query(ranking, vectors, test, preprocess, int(i)) for i in chosen])


def draw_retrieval_grid(queries: Sequence[Query]) -> Figure:
    """A row for each query: itself, its neighbours with ✓ or ✗ and their similarity, and the nearest right one.

    The latter stands at the end, with its rank, in rows where it is not among the neighbours.
    """
    shown = max(len(query.neighbours) for query in queries)
    columns = 1 + shown + any(query.missed is not None for query in queries)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04)
    figure = Figure((1.3 * columns, 1.75 * len(queries)), layout=layout)
    for axes, query in zip(figure.subplots(len(queries), columns, squeeze=False), queries, strict=True):
        _picture(axes[0], query.pixels, query.name, f"query, AP@R {query.average_precision:.0%}")
        axes[0].spines[:].set_color("0.8")
        for place, found in zip(axes[1:], query.neighbours, strict=False):
            _framed(place, found, "")
        if query.missed is not None:
            _framed(axes[-1], query.missed, f", rank {query.missed.rank:,}")
        elif columns > 1 + shown:
            axes[-1].set_axis_off()
    return figure


def _stored(folder: Path, test: Records) -> Tensor:
    """The embeddings that the run stored, (n, D)."""
    path = folder / "test_embeddings.npz"
    if not path.is_file():
        raise MissingFileError(
            f"{path} is missing, the run is not finished: take checkpoint=last, which embeds the test images now, "
            f"or go on with it by: {resume_command(folder)}"
        )
    stored = read_embeddings(path)
    same = tuple(stored["files"]) == test.files and np.array_equal(stored["labels"], test.labels)
    vectors = torch.from_numpy(stored["vectors"])
    if not same:
        raise InputError(
            f"{path} is of other images than the data set has now ({len(vectors)} and {len(test)}): give that of "
            "the run by data=DIR"
        )
    return vectors


def _embed(cfg: TrainConfig, folder: str | Path, splits: Splits, test: Records, checkpoint: str) -> Tensor:
    model = trained_model(cfg, folder, checkpoint=checkpoint, device=choose_device(cfg))
    return build_evaluator(cfg, splits)(model, test).embeddings.vectors


def _query(ranking: QueryRanking, vectors: Tensor, test: Records, preprocess: Preprocess, i: int) -> Query:
    """The i-th query, its image and those of what is found as the model sees them."""
    query = ranking.queries[i]

    def pixels(row: int) -> NDArray[np.uint8]:
        return preprocess(test.image(row)).permute(1, 2, 0).numpy()

    def found(row: int, similarity: float, rank: int) -> Found:
        right = bool(test.labels[row] == test.labels[query])
        return Found(pixels(row), test.class_names[test.labels[row]], float(similarity), right, rank)

    near = zip(ranking.neighbours[i], ranking.similarities[i], strict=True)
    neighbours = [found(row, similarity, rank) for rank, (row, similarity) in enumerate(near, start=1)]
    missed = (
        None
        if any(item.right for item in neighbours)
        else found(*nearest_right(ranking, vectors, test.labels, query))
    )
    name = test.class_names[test.labels[query]]
    return Query(pixels(query), name, float(ranking.average_precision[i]), neighbours, missed)


def _framed(axes: Axes, found: Found, note: str) -> None:
    colour = RIGHT if found.right else WRONG
    _picture(axes, found.pixels, found.name, f"{'✓' if found.right else '✗'} {found.similarity:.2f}{note}")
    axes.xaxis.label.set_color(colour)
    axes.spines[:].set(
        color=colour,
        linewidth=1.5 if found.right else 3.0,
        linestyle="solid" if found.right else (0, (2, 1)),
        capstyle="butt",  # else the dashes run together
    )


def _picture(axes: Axes, pixels: NDArray[np.uint8], title: str, label: str) -> None:
    axes.imshow(pixels, interpolation="bilinear")
    axes.set_title(fit_name(title, width=17, lines=2), fontsize=8, pad=4, parse_math=False)
    axes.set_xlabel(label, fontsize=8, labelpad=4)
    hide_ticks(axes)
