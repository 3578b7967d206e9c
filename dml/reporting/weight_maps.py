"""A figure of what a model looks at: images in rows, beside them the weights of their locations and prototypes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from dml.assembly import build_data
from dml.config import build
from dml.data import Records, decode
from dml.data.discovery import find_images
from dml.devices import choose_device
from dml.errors import MissingFileError
from dml.functional.overlay import ABOVE, BELOW, COVER, FULL, tint
from dml.installation import CONFIGS
from dml.model import EmbeddingModel
from dml.randomness import numpy_generator
from dml.reporting.figures import check_rows, fit_name, hide_ticks
from dml.runs import located_config, trained_model
from dml.weight_maps import NoWeightsError, WeightMaps, weight_maps

__all__ = ["RunWeightMaps", "draw_weight_maps", "weight_maps_of_run"]

STRONGEST = 3  # prototypes in a row
SHARPEST = 224  # pixels of an image in the figure, at least: small ones are enlarged without blocks
WHITE = 255


class RunWeightMaps(NamedTuple):
    """total: how many images there were to choose from; the figure has the first of them, or some by the seed."""

    figure: Figure
    drawn: int
    total: int


def weight_maps_of_run(
    folder: str | Path,
    images: Sequence[str],
    *,
    count: int,
    seed: int,
    checkpoint: str,
    data: str | None,
    device: str | None,
    trust: Sequence[str] = (),
) -> RunWeightMaps:
    """Draw what the model of a run looks at.

    Args:
        folder: a run folder.
        images: files, folders or patterns; none for test images of the run's data set, drawn by the seed.
        count: rows, at most.
        checkpoint, data, device, trust: as in `evaluate_run`.

    Raises:
        MissingFileError: the run, its checkpoint, its data set or an image is not there.
        InputError: the pooling has no weights, or its locations no place in the image.
        FileError: a file is no image.
    """
    check_rows(count)
    cfg = located_config(folder, data=data, device=device, trust=trust)
    files = _find_pictures(images)
    model = trained_model(cfg, folder, checkpoint=checkpoint, device=choose_device(cfg))
    if images:
        names, total = [Path(file).name for file in files[:count]], len(files)
        squares = [model.preprocess(decode(file)) for file in files[:count]]
    else:
        splits = build_data(cfg)
        test = splits.train if splits.test is None else splits.test
        rows, total = _draw(len(test), count, seed), len(test)
        names, squares = (
            [_name(test, row) for row in rows],
            [model.preprocess(test.image(row)) for row in rows],
        )
    maps = _maps(model, torch.stack(squares))
    return RunWeightMaps(draw_weight_maps(maps, names), len(squares), total)


def draw_weight_maps(maps: WeightMaps, names: Sequence[str]) -> Figure:
    """A row for each image: itself, its weights over it, and the maps of its strongest prototypes.

    names: of the images, (B,).
    """
    count, strongest = maps.prototypes.shape
    columns = 2 + strongest
    size = (1.55 * columns, 1.72 * count + 0.6)
    figure = Figure(size, layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
    grid = figure.subplots(count, columns, squeeze=False)
    images = _enlarge(maps.images)
    layers = [tint(images, layer, FULL) for layer in (maps.weights, *maps.prototype_maps.unbind(1))]
    for row, axes in enumerate(grid):
        _picture(axes[0], images[row], fit_name(names[row], width=20, lines=2))
        for column, layer in enumerate(layers):
            _picture(axes[1 + column], layer[row], _title(maps, row, column))
    _colour_bar(figure, grid[:, 1:2], "times the uniform weight")
    if strongest:
        _colour_bar(figure, grid[:, 2:], "times a uniform share in the mass that the prototype receives")
    return figure


def _find_pictures(images: Sequence[str]) -> list[str]:
    """The files that are meant, each name in its order, folders and patterns sorted."""
    found: list[str] = []
    for name in images:
        path = Path(name)
        if path.is_dir():
            matches = [str(path / file) for file in find_images(path).files]
        else:
            matches = [name] if path.exists() else sorted(glob.glob(name, recursive=True))
        if not matches:
            raise MissingFileError(
                f"images={name} leads to no image: give a file, a folder with images in it, a pattern such as "
                "'photos/*.jpg', or a list of these as in images=[a.jpg,b.jpg]"
            )
        found += matches
    return found


def _draw(total: int, count: int, seed: int) -> list[int]:
    """So many different rows of a set, by the seed, in the order of the set."""
    chosen = numpy_generator(seed, "attention").choice(total, min(count, total), replace=False)
    return sorted(chosen.tolist())


def _name(records: Records, row: int) -> str:
    return str(records.class_names[records.labels[row]])


def _maps(model: EmbeddingModel, images: Tensor) -> WeightMaps:
    try:
        return weight_maps(model, images, strongest=STRONGEST)
    except NoWeightsError as error:
        raise NoWeightsError(f"{error}; poolings that do: {', '.join(_poolings_with_weights())}") from error


def _poolings_with_weights() -> list[str]:
    """The choices of ``pooling=`` that weigh locations, found by asking each."""
    names = sorted(path.stem for path in (CONFIGS / "pooling").glob("*.yaml"))
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        nodes = {name: hydra.compose(f"pooling/{name}").pooling for name in names}
    features = torch.rand(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    built = {name: build(node, in_channels=4).eval() for name, node in nodes.items()}
    return [name for name, pooling in built.items() if pooling(features).weights is not None]


def _enlarge(images: Tensor) -> Tensor:
    scale = max(1.0, SHARPEST / max(images.shape[-2:]))
    return F.interpolate(images, scale_factor=scale, mode="bicubic") if scale > 1 else images


def _title(maps: WeightMaps, row: int, layer: int) -> str:
    if layer == 0:
        return f"weights\n{maps.weights[row].amin():.2f} to {maps.weights[row].amax():.2f}"
    share = float(maps.attributes[row, layer - 1])
    return f"prototype {int(maps.prototypes[row, layer - 1])}\n{share:.1%} of attributes"


def _picture(axes: Axes, pixels: Tensor, title: str) -> None:
    axes.imshow(pixels.permute(1, 2, 0).numpy())
    axes.set_title(title, fontsize=8, pad=3, parse_math=False)
    axes.spines[:].set_color("0.8")
    hide_ticks(axes)


def _colour_bar(figure: Figure, grid: NDArray[Any], label: str) -> None:
    """The colours of `tint` over white, below the columns that it is for."""
    ends = [[(WHITE + COVER * (part - WHITE)) / WHITE for part in colour] for colour in (BELOW, ABOVE)]
    colours = LinearSegmentedColormap.from_list("departure", [ends[0], (1.0, 1.0, 1.0), ends[1]])
    scale = ScalarMappable(Normalize(1 - FULL, 1 + FULL), colours)
    bar = figure.colorbar(
        scale, ax=list(grid.flat), location="bottom", extend="max", aspect=16 * grid.shape[1], pad=0.01
    )
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, size=8)
