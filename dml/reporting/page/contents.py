"""Gather what a page shows of one run, section by section, from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from dml.config import TrainConfig
from dml.functional.overlay import FULL, tint
from dml.model import EmbeddingModel
from dml.reporting.outcome import outcome, read_course
from dml.reporting.page.charts import histogram, point_path
from dml.reporting.page.classes import ClassFigures, Interval, class_figures, interval_over_classes
from dml.reporting.page.course import course_charts
from dml.reporting.page.images import Sheet, Thumbnails, data_of, sheet_of
from dml.reporting.page.pairs import confused_pairs, sampled_similarities
from dml.reporting.page.plane import Plane, chosen_images, principal_plane, shown_points, umap_plane
from dml.reporting.page.sections import (
    Confusion,
    Contents,
    Look,
    PlaneView,
    Row,
    Shown,
    Spot,
    TestSet,
    WorstClass,
)
from dml.reporting.page.settings import commands_of, differences_from_defaults, headline
from dml.reporting.queries import QueryRanking, nearest_right, order_queries, rank_queries
from dml.reporting.terminal import metric_text
from dml.run_folder import RunFolder
from dml.runs import kept_step, load_metrics
from dml.weight_maps import NoGridError, NoWeightsError, weight_maps

__all__ = ["gather"]

NEIGHBOURS = 5
HARDEST = 6
CONFUSED, OF_EACH = 6, 3  # pairs of classes, images of each class
WORST = 8
MOST_CLASSES = 1000  # in the whole table
LOOKED_AT, STRONGEST, ENLARGED = 4, 3, 160  # images, prototypes of each, pixels
SHEET_SIDE = 48


def gather(
    folder: RunFolder,
    cfg: TrainConfig,
    *,
    images: Thumbnails | None,
    model: EmbeddingModel | None,
    umap: bool = True,
) -> Contents:
    """Read a finished run.

    Args:
        images: of its test set, in the order of its embeddings; None where the data set is not at hand.
        model: the one that was kept, to see what it looks at; None for nothing.
        umap: also by UMAP, if it is installed.

    Raises:
        MissingFileError: the run is not finished.
        InputError: its embeddings are damaged.
    """
    metrics = load_metrics(folder)
    common = _of_every_run(folder, cfg, metrics)
    if not folder.test_embeddings.exists():
        sets, rows = _figures(metrics, None, None)
        return Contents(**common, sets=sets, rows=rows, notes=["This run has no test classes."])
    test = TestSet.read(folder)
    ranking = _ranking(test, cfg)
    sets, rows = _figures(metrics, test, ranking)
    planes, sheet = _planes(test, images, umap=umap)
    return Contents(
        **common,
        **_by_class(test, ranking, images),
        sets=sets,
        rows=rows,
        test=test,
        ranking=ranking,
        confusions=_confusions(test, ranking, images),
        hardest=_hardest(test, ranking, images),
        unanswered=int((ranking.average_precision == 0).sum()),
        similarity_chart=_similarity_chart(test),
        planes=planes,
        sheet=sheet,
        looks=_looks(test, images, model),
        notes=[] if images else ["The data set was not at hand, so the page has no images."],
    )


def _of_every_run(
    folder: RunFolder, cfg: TrainConfig, metrics: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    file, kept = folder.environment, kept_step(folder)
    environment = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {
        "name": folder.path.name,
        "headline": headline(cfg),
        "folder": str(folder),
        "kept": kept,
        "settings": cfg,
        "environment": environment,
        "sentences": outcome(folder),
        "differences": differences_from_defaults(cfg),
        "commands": commands_of(folder, environment, last="test" not in metrics or not kept),
        "course": course_charts(folder, read_course(folder), kept),
    }


def _ranking(test: TestSet, cfg: TrainConfig) -> QueryRanking:
    gallery = len(test.labels) - 1 if test.is_query is None else int((~test.is_query).sum())
    ranks = [k for k in cfg.evaluator.recall_at if k <= gallery]
    vectors, count = torch.from_numpy(test.vectors), min(NEIGHBOURS, gallery)
    return rank_queries(vectors, test.labels, test.is_query, count, recall_at=ranks)


def _by_class(test: TestSet, ranking: QueryRanking, images: Thumbnails | None) -> dict[str, Any]:
    figures = class_figures(test.labels[ranking.queries], ranking.recall, ranking.average_precision)
    order = np.lexsort((figures.recall, figures.average_precision))
    return {
        "classes": [_of_class(test, figures, int(i), None) for i in order[:MOST_CLASSES]],
        "worst": [_of_class(test, figures, int(i), images) for i in order[:WORST]],
        "all_classes": len(figures.labels),
        "class_chart": histogram(
            {"": figures.average_precision},
            title="Classes by their map@r",
            x_label="map@r of the class (1 is perfect)",
            bins=np.linspace(0, 1, 21),
        ),
    }


def _figures(
    metrics: Mapping[str, Mapping[str, float]], test: TestSet | None, ranking: QueryRanking | None
) -> tuple[list[str], list[Row]]:
    validated = next(iter(metrics))
    sets = sorted(metrics, key=lambda name: name != "untrained")
    intervals: dict[str, Interval] = {}
    if test is not None and ranking is not None:
        labels = test.labels[ranking.queries]
        intervals = {name: interval_over_classes(values, labels) for name, values in ranking.scores.items()}
    rows = [
        Row(
            name, [metric_text(name, metrics[part].get(name)) for part in sets], _between(intervals.get(name))
        )
        for name in metrics[validated]
    ]
    return [f"{validated}, untrained" if name == "untrained" else name for name in sets], rows


def _between(interval: Interval | None) -> str:
    if interval is None or np.isnan(interval.low):
        return ""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _of_class(test: TestSet, figures: ClassFigures, i: int, images: Thumbnails | None) -> WorstClass:
    label = int(figures.labels[i])
    row = int(np.flatnonzero(test.labels == label)[0]) if images else 0
    shown = _shown(test, images, row) if images else Shown("", "", "", None)
    name, queries = test.class_names[label], int(figures.queries[i])
    return WorstClass(name, shown, queries, float(figures.recall[i]), float(figures.average_precision[i]))


def _shown(
    test: TestSet, images: Thumbnails | None, row: int, note: str = "", right: bool | None = None
) -> Shown:
    name = test.class_names[test.labels[row]]
    return Shown("" if images is None else images.data(row), name, note, right)


def _confusions(test: TestSet, ranking: QueryRanking, images: Thumbnails | None) -> list[Confusion]:
    found = []
    for pair in confused_pairs(ranking, test.labels, CONFUSED):
        rows = [row for label in pair[:2] for row in np.flatnonzero(test.labels == label)[:OF_EACH]]
        first, second = (test.class_names[label] for label in pair[:2])
        shown = [_shown(test, images, int(row)) for row in rows] if images else []
        found.append(Confusion(first, second, pair.confused, pair.queries, shown))
    return found


def _hardest(test: TestSet, ranking: QueryRanking, images: Thumbnails | None) -> list[list[Shown]]:
    """Rows of images: the query, its neighbours, and the nearest right one if it is not among them."""
    if images is None:
        return []
    vectors = torch.from_numpy(test.vectors)
    rows = []
    for i in order_queries(ranking.average_precision, "hardest", seed=0)[:HARDEST]:
        query = int(ranking.queries[i])
        shown = [_shown(test, images, query, f"query, AP@R {ranking.average_precision[i]:.0%}")]
        for row, similarity in zip(ranking.neighbours[i], ranking.similarities[i], strict=True):
            right = bool(test.labels[row] == test.labels[query])
            shown.append(_shown(test, images, int(row), f"{similarity:.2f}", right))
        if not any(image.right for image in shown):
            row, similarity, rank = nearest_right(ranking, vectors, test.labels, query)
            shown.append(_shown(test, images, row, f"{similarity:.2f}, rank {rank:,}", True))
        rows.append(shown)
    return rows


def _similarity_chart(test: TestSet) -> Markup:
    parts = sampled_similarities(test.vectors, test.labels)
    low = min(float(values.min()) for values in parts.values() if len(values))
    title, label = "Similarities of pairs of test images", "cosine similarity"
    return histogram(parts, title=title, x_label=label, bins=np.linspace(min(low, 0.9), 1, 51))


def _planes(test: TestSet, images: Thumbnails | None, *, umap: bool) -> tuple[list[PlaneView], Sheet | None]:
    rows = chosen_images(test.labels)
    planes: list[Plane | None] = [principal_plane(test.vectors), umap_plane(test.vectors) if umap else None]
    shown = shown_points(len(test.labels))
    names = {str(label): test.class_names[label] for label in np.unique(test.labels[rows]).tolist()}
    views = []
    for plane in planes:
        if plane is None:
            continue
        spots = [
            Spot(round(x, 1), round(y, 1), number, int(test.labels[row]))
            for number, row in enumerate(rows)
            for x, y in [plane.points[row].tolist()]
        ]
        path = point_path(plane.points[shown])
        views.append(PlaneView(plane.name, plane.note, path, spots, json.dumps(names)))
    sheet = None if images is None else sheet_of([images.image(int(row)) for row in rows], SHEET_SIDE)
    return views, sheet


def _looks(test: TestSet, images: Thumbnails | None, model: EmbeddingModel | None) -> list[Look]:
    """What the pooling weighs in images at equal distances in the set; nothing of a pooling without weights."""
    if images is None or model is None:
        return []
    count = min(LOOKED_AT, len(test.labels))
    rows = [(2 * i + 1) * len(test.labels) // (2 * count) for i in range(count)]
    try:
        maps = weight_maps(model, torch.stack([images.tensor(row) for row in rows]), strongest=STRONGEST)
    except (NoWeightsError, NoGridError):
        return []
    large = torch.nn.functional.interpolate(
        maps.images, [ENLARGED, ENLARGED], mode="bilinear", antialias=True
    )
    weighed = tint(large, maps.weights, FULL)
    layers = [tint(large, layer, FULL) for layer in maps.prototype_maps.unbind(1)]
    looks = []
    for i, row in enumerate(rows):
        low, high = maps.weights[i].amin(), maps.weights[i].amax()
        pictures = [
            (data_of(large[i], ENLARGED), "image"),
            (data_of(weighed[i], ENLARGED), f"weights, {low:.2f} to {high:.2f}"),
        ]
        for k, layer in enumerate(layers):
            share = float(maps.attributes[i, k])
            note = f"prototype {int(maps.prototypes[i, k])}, {share:.1%} of attributes"
            pictures.append((data_of(layer[i], ENLARGED), note))
        looks.append(Look(test.class_names[test.labels[row]], pictures))
    return looks
