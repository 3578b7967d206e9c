"""The figure of queries and neighbours: which come first, what is right, and where the embeddings come from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dml.config import TrainConfig
from dml.reporting.queries import order_queries
from dml.reporting.retrieval_grid import (
    RIGHT,
    WRONG,
    Found,
    Query,
    draw_retrieval_grid,
    retrieval_grid_of_run,
)
from tests.photographs import TEST_CLASSES, write_finished_run

Compose = Callable[..., TrainConfig]
PIXELS = np.zeros((4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("seed", [0, 1])
def test_queries_come_by_difficulty_and_those_with_nothing_to_find_not_at_all(seed: int) -> None:
    precision = np.array([0.5, 0.0, np.nan, 1.0, 0.0, 0.25])
    hardest, easiest, drawn = (
        order_queries(precision, order, seed=seed).tolist() for order in ("hardest", "easiest", "random")
    )
    assert hardest[2:] == [5, 0, 3] and sorted(hardest[:2]) == [1, 4]
    assert easiest[:3] == [3, 0, 5] and sorted(easiest[3:]) == [1, 4]
    assert sorted(drawn) == [0, 1, 3, 4, 5]


def test_the_seed_alone_orders_queries_that_are_equally_hard() -> None:
    orders = [tuple(order_queries(np.zeros(50), "hardest", seed=seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and orders[0] != tuple(range(50))


def test_right_and_wrong_differ_in_sign_and_stroke_as_well_as_in_colour() -> None:
    found = [Found(PIXELS, "oak", 0.912, True, 1), Found(PIXELS, "$ash$", 0.9, False, 2)]
    query, right, wrong = draw_retrieval_grid([Query(PIXELS, "oak", 0.25, found, None)]).axes
    assert (query.get_xlabel(), right.get_xlabel(), wrong.get_xlabel()) == (
        "query, AP@R 25%",
        "✓ 0.91",
        "✗ 0.90",
    )
    assert wrong.get_title() == "$ash$" and not wrong.title.get_parse_math()
    frames = [axes.spines["left"] for axes in (right, wrong)]
    assert [to_hex(frame.get_edgecolor()) for frame in frames] == [RIGHT, WRONG]
    assert [frame.get_linestyle() == "solid" for frame in frames] == [True, False]
    assert frames[0].get_linewidth() < frames[1].get_linewidth()


def test_the_nearest_right_one_stands_at_the_end_where_it_was_missed() -> None:
    right, wrong = Found(PIXELS, "oak", 0.9, True, 1), Found(PIXELS, "ash", 0.9, False, 1)
    missed = Found(PIXELS, "oak", 0.5, True, 1234)
    rows = [Query(PIXELS, "oak", 0.25, [right], None), Query(PIXELS, "oak", 0.0, [wrong], missed)]
    axes = draw_retrieval_grid(rows).axes
    assert len(axes) == 6 and not axes[2].axison
    assert axes[5].get_xlabel() == "✓ 0.50, rank 1,234" and axes[5].spines["left"].get_linestyle() == "solid"


def grid(run: Path, **changes: Any) -> Figure:
    options = {"count": 64, "neighbours": 4, "order": "hardest", "seed": 0, "checkpoint": "best"}
    return retrieval_grid_of_run(run, **{**options, "data": None, "device": "cpu", **changes})


def labels(figure: Figure, columns: int) -> list[list[tuple[str, str]]]:
    """Title and label of each picture, by row."""
    cells = [(axes.get_title(), axes.get_xlabel()) for axes in figure.axes]
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


@pytest.fixture(scope="module")
def run(compose_smoke: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finished_run(tmp_path_factory.mktemp("grid"), compose_smoke)


def test_rows_are_what_the_stored_embeddings_find(run: Path) -> None:
    with np.load(run / "test_embeddings.npz") as stored:
        vectors, classes = stored["vectors"].astype(np.float64), stored["labels"]
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -2)
    expected = []
    for query, order in enumerate(np.argsort(-similarities, axis=1)):
        right = classes[order] == classes[query]
        precision = sum(right[: i + 1].mean() for i in range(3) if right[i]) / 3
        cells = [(TEST_CLASSES[classes[query]], f"query, AP@R {precision:.0%}")]
        for i in order[:4]:
            sign = "✓" if classes[i] == classes[query] else "✗"
            cells.append((TEST_CLASSES[classes[i]], f"{sign} {similarities[query, i]:.2f}"))
        expected.append(cells)
    drawn = labels(grid(run), 5)
    assert sorted(drawn) == sorted(expected)
    percents = [int(row[0][1].removeprefix("query, AP@R ").removesuffix("%")) for row in drawn]
    assert percents == sorted(percents)


def test_the_rank_of_the_nearest_right_one_counts_wrong_ones_before_it_and_its_equals(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "test_embeddings.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    vectors = np.eye(12, dtype=np.float32)
    vectors[0] = vectors[4:12].sum(0) * 0.3 + 0.2 * vectors[1]  # the other classes are nearer than its own
    arrays["vectors"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(path, **arrays)
    rows = labels(grid(tmp_path / "run"), 6)
    assert [row[-1][0] for row in rows if row[-1][1] == "✓ 0.23, rank 9"] == [TEST_CLASSES[0]]
    ties = [row for row in rows if row[-1][1] == "✓ 0.00, rank 9"]
    assert ties and all(row[-1][0] == row[0][0] for row in ties)


def test_embeddings_of_another_checkpoint_are_computed(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "test_embeddings.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_embeddings.npz is missing.*checkpoint=last"):
        grid(tmp_path / "run")
    assert labels(grid(tmp_path / "run", checkpoint="last", count=3), 5) == labels(grid(run, count=3), 5)


def test_queries_find_only_the_gallery_where_a_set_has_both(compose_smoke: Compose, tmp_path: Path) -> None:
    run = write_finished_run(tmp_path, compose_smoke, roles=True)
    rows = labels(grid(run, neighbours=9), 10)
    assert sorted(row[0][0] for row in rows) == sorted(TEST_CLASSES)
    assert all([label[0] for _, label in row[1:]].count("✓") == 3 for row in rows)
    with pytest.raises(ValueError, match="each query has 9 others to find"):
        grid(run, neighbours=10)


def test_embeddings_of_other_images_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent, tmp_path / "moved")
    (tmp_path / "moved" / "photographs" / "test" / "oak" / "3.png").unlink()
    with pytest.raises(
        ValueError, match=r"of other images than the data set has now \(12 and 11\).*data=DIR"
    ):
        grid(tmp_path / "moved" / "run", data=str(tmp_path / "moved"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count=0: a figure has 1 to 64 rows"),
        ({"neighbours": 0}, "neighbours=0: a row has 1 to 20"),
        ({"neighbours": 21}, "neighbours=21: a row has 1 to 20"),
        ({"neighbours": 12}, "12 neighbours were asked for, but each query has 11 others"),
        ({"order": "worst"}, "order=worst; accepted: hardest, easiest, random"),
    ],
)
def test_what_cannot_be_drawn_is_refused(run: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(run, **changes)
