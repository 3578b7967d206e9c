"""The figure of what a model looks at, and which images it is drawn of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dml.config import TrainConfig
from dml.functional.overlay import FULL, tint
from dml.reporting.weight_maps import RunWeightMaps, draw_weight_maps, weight_maps_of_run
from dml.weight_maps import WeightMaps
from tests.photographs import TEST_CLASSES, write_finished_run

Compose = Callable[..., TrainConfig]


def maps_of(count: int, strongest: int) -> WeightMaps:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=generator)
    weights = 0.5 + torch.rand(count, 4, 4, generator=generator)
    prototypes = torch.arange(count * strongest).view(count, strongest)
    attributes = torch.full((count, strongest), 0.125)
    prototype_maps = torch.rand(count, strongest, 4, 4, generator=generator)
    return WeightMaps(images, weights, prototypes, attributes, prototype_maps)


def test_a_row_holds_the_image_its_weights_and_its_prototypes() -> None:
    maps = maps_of(2, 3)
    axes = draw_weight_maps(maps, ["cat", "costs_$5_to_$6"]).axes
    titles = [place.get_title() for place in axes[5:10]]
    least, most = maps.weights[1].min(), maps.weights[1].max()
    assert titles[:2] == ["costs_$5_to_$6", f"weights\n{least:.2f} to {most:.2f}"]
    assert titles[2:] == [f"prototype {j}\n12.5% of attributes" for j in (3, 4, 5)]
    drawn = np.asarray(axes[6].images[0].get_array())
    assert np.array_equal(drawn, tint(maps.images, maps.weights, FULL)[1].permute(1, 2, 0))


def test_the_colour_bar_is_the_same_for_all_images_and_has_the_colours_over_white() -> None:
    maps = maps_of(1, 2)._replace(weights=torch.tensor([[[0.0, 4.0]]]))
    bar = draw_weight_maps(maps, ["cat"]).axes[-2]
    assert bar.get_xlim() == (0, 2) and bar.get_xlabel() == "times the uniform weight"
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    mesh = bar.collections[-1]
    for value in (0.0, 0.6, 1.0, 1.7, 2.0):
        expected = tint(white, torch.full((1, 1, 1), value), FULL).flatten() / 255
        assert mesh.to_rgba(value)[:3] == pytest.approx(expected.tolist(), abs=0.01)


def test_without_prototypes_there_are_two_columns_and_small_images_are_enlarged() -> None:
    maps = maps_of(1, 0)._replace(images=torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    axes = draw_weight_maps(maps, ["cat"]).axes
    assert len(axes) == 3 and np.asarray(axes[0].images[0].get_array()).shape == (224, 224, 3)


def look(folder: Path, *images: str | Path, count: int = 9, seed: int = 0) -> RunWeightMaps:
    options = {"checkpoint": "best", "data": None, "device": "cpu"}
    return weight_maps_of_run(folder, [str(image) for image in images], count=count, seed=seed, **options)


def names(found: RunWeightMaps) -> list[str]:
    """The titles over the images, in the first of five columns."""
    return [axes.get_title() for axes in found.figure.axes[: 5 * found.drawn : 5]]


@pytest.fixture(scope="module")
def run(compose_smoke: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finished_run(tmp_path_factory.mktemp("attention"), compose_smoke)


def test_images_are_files_folders_patterns_or_lists_of_them(run: Path) -> None:
    oaks = run.parent / "photographs" / "test" / "oak"
    assert names(look(run, oaks)) == ["0.png", "1.png", "2.png", "3.png"]
    assert names(look(run, oaks / "3.png", f"{oaks}/[01].png")) == ["3.png", "0.png", "1.png"]
    some = look(run, oaks, count=2)
    assert names(some) == ["0.png", "1.png"] and (some.drawn, some.total) == (2, 4)


def test_pictures_of_ones_own_need_no_data_set(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    shutil.copytree(run, tmp_path / "run")
    config = (run / "config.yaml").read_text().replace(str(run.parent / "photographs"), "/nowhere")
    (tmp_path / "run" / "config.yaml").write_text(config)
    assert names(look(tmp_path / "run", tmp_path / "red.png")) == ["red.png"]


def test_without_images_the_seed_draws_some_of_the_test_set(run: Path) -> None:
    first, again, other = (names(look(run, count=3, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    whole = look(run, count=64)
    assert names(whole) == [name for name in TEST_CLASSES for _ in range(4)] and whole.total == 12


def test_images_that_are_not_there_or_no_pictures_are_named(run: Path, tmp_path: Path) -> None:
    for wrong in (tmp_path / "d.png", f"{tmp_path}/*.webp", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"leads to no image: give a file, a folder"):
            look(run, wrong)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(OSError, match=r"notes.txt cannot be read as an image"):
        look(run, tmp_path / "notes.txt")


def test_a_pooling_without_weights_is_refused_with_those_that_have(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    run = write_finished_run(tmp_path, compose_smoke, "pooling=gap_max")
    with pytest.raises(
        ValueError, match=r"GlobalAverageMaxPooling gives .* no weights.*that do: .*gap, .*gsp, "
    ):
        look(run)
