"""Figures of the controlled study: what each pooling reaches, its course, its sweeps, and where it looks."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from dml.assembly import build_data
from dml.config import load_config
from dml.data import Records
from dml.errors import MissingFileError
from dml.functional.overlay import FULL, tint
from dml.functional.selection import share_on_tiles
from dml.randomness import numpy_generator
from dml.reporting.figures import hide_ticks, save_figure
from dml.reporting.statistics import estimate
from dml.reporting.study import MAIN, SWEEPS, TABLES, StudyRow, markdown_study, reference_of, study_rows
from dml.runs import load_model
from dml.weight_maps import NoWeightsError, weight_maps

__all__ = ["draw_course", "draw_rows", "draw_sweeps", "draw_weights", "write_study"]

METRICS = {"map@r": "MAP@R", "selection_accuracy": "selection accuracy"}
BLUE, ORANGE, GREY = "#2662c4", "#d8611e", "0.45"
PICTURES = 6  # in the figure of weights
CANDIDATES = 96  # of which those are chosen
ENLARGED = 3  # times, so that tiles of 32 pixels can be seen


def write_study(folder: Path, output: Path) -> list[Path]:
    """Write ``results.md`` and the figures of what is finished, and give their paths.

    Raises:
        MissingFileError: no run of the main table is finished.
    """
    tables = {name: study_rows(name, folder) for name in TABLES}
    if not tables[MAIN]:
        raise MissingFileError(
            f"no run of the study is finished in {folder}: leave out run=false; of runs that failed, the .log beside "
            "the folder of each says why"
        )
    reference = reference_of(tables[MAIN])
    text = [
        f"## {TABLES[name]}\n\n"
        + markdown_study(rows, reference=reference_of(rows) or reference, swept=SWEEPS.get(name))
        for name, rows in tables.items()
        if rows
    ]
    sweeps = {name: tables[name] for name in SWEEPS if tables[name]}
    figures = {
        "study_rows": draw_rows(tables[MAIN]),
        "study_course": draw_course(tables[MAIN]),
        "study_weights": draw_weights(tables[MAIN], count=PICTURES, seed=0),
        **({"study_sweeps": draw_sweeps(sweeps, reference)} if sweeps else {}),
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.md").write_text("\n".join(text), encoding="utf-8")
    for name, figure in figures.items():
        save_figure(figure, output / f"{name}.png")
    return [output / "results.md", *(output / f"{name}.png" for name in figures)]


def draw_rows(rows: Sequence[StudyRow]) -> Figure:
    """MAP@R and selection accuracy of each row, with their intervals; marks for chance and for the best possible."""
    figure = Figure((9, 0.42 * len(rows) + 1.1), layout=ConstrainedLayoutEngine())
    panels = figure.subplots(1, 2, sharey=True)
    names = [row.name for row in rows]
    for axes, (metric, title) in zip(panels, METRICS.items(), strict=True):
        for place, row in enumerate(rows):
            values = list(row.values(metric).values())
            if not values or (metric != "map@r" and row.is_reference):
                continue
            found = estimate(values)
            error = 0 if math.isnan(found.half_width) else 100 * found.half_width
            axes.barh(
                place, 100 * found.mean, xerr=error, color=GREY if row.is_reference else BLUE, capsize=3
            )
            if metric != "map@r" and not math.isnan(row.best_selection):
                axes.plot(
                    100 * row.best_selection, place, "|", color=ORANGE, markersize=14, markeredgewidth=2
                )
        axes.set_title(f"{title}, in %", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].axvline(100 * rows[0].chance, color=GREY, linestyle=":", linewidth=1)
    panels[1].set_xlim(0, 103)
    panels[1].set_xlabel("dotted: chance; orange mark: best possible", fontsize=8)
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].invert_yaxis()
    return figure


def draw_course(rows: Sequence[StudyRow]) -> Figure:
    """MAP@R and selection accuracy of the validation classes along the training, averaged over the seeds."""
    figure = Figure((9, 3.2), layout=ConstrainedLayoutEngine())
    panels = figure.subplots(1, 2)
    for axes, (metric, title) in zip(panels, METRICS.items(), strict=True):
        for number, row in enumerate(rows):
            if metric != "map@r" and row.is_reference:
                continue
            steps, values = _course(row, f"val/{metric}")
            style = {"color": GREY, "linestyle": "--"} if row.is_reference else {"color": f"C{number}"}
            if values:
                axes.plot(steps, values, label=row.name, marker=".", **style)
        _label(axes, "step", f"{title} of the validation classes, in %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def draw_sweeps(sweeps: Mapping[str, Sequence[StudyRow]], reference: StudyRow | None) -> Figure:
    """MAP@R and selection accuracy along each setting that was varied; a point for each seed, a line through the means.

    sweeps: by table, its rows.
    """
    figure = Figure((9, 5.4), layout=ConstrainedLayoutEngine())
    panels = figure.subplots(2, len(sweeps), squeeze=False, sharey="row")
    for column, (table, rows) in enumerate(sweeps.items()):
        key = SWEEPS[table]
        points = sorted(rows, key=lambda row: float(row.settings[key]))
        for axes, (metric, title) in zip(panels[:, column], METRICS.items(), strict=True):
            _sweep(axes, points, key, metric)
            _label(axes, key, f"{title}, in %" if column == 0 else "")
        if reference is not None:
            level = 100 * estimate(list(reference.values("map@r").values())).mean
            panels[0, column].axhline(level, color=GREY, linestyle="--", linewidth=1)
        panels[1, column].axhline(100 * points[0].chance, color=GREY, linestyle=":", linewidth=1)
    panels[0, 0].set_title("dashed: the targets alone", fontsize=8)
    panels[1, 0].set_title("dotted: chance; orange: best possible", fontsize=8)
    return figure


def draw_weights(rows: Sequence[StudyRow], *, count: int, seed: int) -> Figure:
    """Test collages, and over them the weights of each row's model of its first seed, if it can weigh unevenly.

    The target has a green frame; below each image stands the share of the weights that lies on it. Shown are typical
    collages: of those drawn by the seed, the ones in which every row has nearest to its own median share. The
    reference is left out: it was trained without background.
    """
    records = build_data(load_config(_first_folder(rows[0]) / "config.yaml")).test
    assert records is not None  # the study tests on collages
    drawn_from = min(CANDIDATES, len(records))
    chosen = numpy_generator(seed, "attention").choice(len(records), drawn_from, replace=False)
    tiles = torch.stack([torch.from_numpy(_targets(records, int(row))) for row in chosen])
    pictures = torch.stack(
        [torch.from_numpy(records.image(int(row))).permute(2, 0, 1).contiguous() for row in chosen]
    )
    selective = [row for row in rows if not row.is_reference and row.best_selection != row.chance]
    columns = [
        (row.name, *drawn) for row in selective if (drawn := _weights(row, pictures, tiles)) is not None
    ]
    typical = _typical([shares for _, _, shares in columns], count)
    figure = Figure((1.5 * (1 + len(columns)), 1.72 * len(typical)), layout=ConstrainedLayoutEngine())
    grid = figure.subplots(len(typical), 1 + len(columns), squeeze=False)
    for place, (line, axes) in enumerate(zip(typical, grid, strict=True)):
        name = records.class_names[records.labels[chosen[line]]]
        _picture(axes[0], _enlarge(pictures)[line], name, tiles[line])
        for axis, (label, layers, shares) in zip(axes[1:], columns, strict=True):
            _picture(axis, layers[line], f"{shares[line]:.0%} on target", tiles[line])
            if place == 0:
                axis.set_title(label, fontsize=8)
    return figure


def _typical(shares: Sequence[Sequence[float]], count: int) -> list[int]:
    """The images, as columns of the shares of each row, that lie nearest to the medians of the rows."""
    values = np.array(shares)
    distance = np.abs(values - np.median(values, axis=1, keepdims=True)).sum(0)
    return sorted(np.argsort(distance, kind="stable")[:count].tolist())


def _weights(row: StudyRow, pictures: Tensor, tiles: Tensor) -> tuple[Tensor, list[float]] | None:
    model = load_model(_first_folder(row))
    try:
        maps = weight_maps(model, pictures, strongest=0)
    except NoWeightsError:
        return None
    shares = share_on_tiles(maps.weights.flatten(1) / maps.weights[0].numel(), tiles)
    layers = tint(_enlarge(pictures), maps.weights, FULL)
    return layers, shares.tolist()


def _first_folder(row: StudyRow) -> Path:
    return next(iter(row.runs.values())).folder


def _targets(records: Records, index: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = cast(Any, records.images).target_tiles(int(records.rows[index]))
    return found


def _enlarge(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, scale_factor=ENLARGED, mode="nearest")


def _picture(axes: Axes, pixels: Tensor, text: str, tiles: Tensor) -> None:
    axes.imshow(pixels.permute(1, 2, 0).numpy())
    axes.set_xlabel(text, fontsize=7, labelpad=2)
    side = pixels.shape[1] / tiles.shape[0]
    for top, left in tiles.nonzero().tolist():
        axes.add_patch(
            Rectangle(
                (left * side, top * side), side - 2, side - 2, fill=False, edgecolor="#1b7f3b", linewidth=2
            )
        )
    axes.spines[:].set_color("0.8")
    hide_ticks(axes)


def _sweep(axes: Axes, rows: Sequence[StudyRow], key: str, metric: str) -> None:
    places = [float(row.settings[key]) for row in rows]
    values = [[100 * value for value in row.values(metric).values()] for row in rows]
    axes.set_xscale("log")
    axes.plot(places, [sum(v) / len(v) for v in values], color=BLUE)
    for place, found in zip(places, values, strict=True):
        axes.plot([place] * len(found), found, ".", color=BLUE)
    if metric != "map@r":
        axes.plot(places, [100 * row.best_selection for row in rows], color=ORANGE, linewidth=1)
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()


def _course(row: StudyRow, column: str) -> tuple[list[int], list[float]]:
    """Steps, and the mean over the runs in per cent; empty where the runs do not log it."""
    found: dict[int, list[float]] = {}
    for run in row.runs.values():
        with (run.folder / "history.csv").open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                if line.get(column):
                    found.setdefault(int(line["step"]), []).append(100 * float(line[column]))
    return list(found), [sum(values) / len(values) for values in found.values()]


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
