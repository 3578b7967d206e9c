"""Collages: what lies where, what is drawn anew, and what is disjoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dml.config import TrainConfig, build
from dml.data import ClassBalancedSampler, collage_dataset, training_batches
from dml.data.collage import CollageImages, Tiles
from dml.data.emoji import read_emoji
from dml.data.records import draw_image
from dml.data.transforms import TrainingTransform
from dml.randomness import numpy_generator
from tests.data.test_cifar100 import write_official_format

Compose = Callable[..., TrainConfig]
EMOJI = Path(__file__).parents[2] / "data" / "emoji"
TARGETS, BACKGROUNDS = ["Animals & Nature", "Food & Drink"], ["Symbols"]


def plain_tiles() -> Tiles:
    """Six targets of two classes with the grey values 101 to 106, and backgrounds of value 0 and 1."""

    def grey(values: range) -> np.ndarray:
        return np.stack([np.full((8, 8, 3), v, np.uint8) for v in values])

    labels = np.array([0, 0, 0, 1, 1, 1])
    return Tiles(grey(range(101, 107)), labels, ("a", "b"), tuple("abcdef"), grey(range(2)))


def collages(**changes: Any) -> CollageImages:
    options = {"grid": 2, "targets_per_image": 1, "size": 4 * changes.get("grid", 2), "crop": 1.0, "seed": 0}
    return CollageImages(plain_tiles(), **{**options, **changes})


def emoji(**changes: Any) -> Any:
    options: dict[str, Any] = {
        "base": "emoji",
        "grid": 2,
        "targets_per_image": 1,
        "size": 64,
        "crop": 0.5,
        "seed": 0,
        "target_groups": TARGETS,
        "background_groups": BACKGROUNDS,
    }
    return collage_dataset(str(EMOJI), **{**options, **changes})


@pytest.mark.parametrize("row", range(6))
def test_the_target_lies_on_the_target_tile_and_nowhere_else(row: int) -> None:
    images = collages()
    seen = images[row].reshape(2, 4, 2, 4, 3)[:, 0, :, 0, 0]  # a pixel of each tile
    np.testing.assert_array_equal(seen == 101 + row, images.target_tiles(row))
    assert images.target_tiles(row).sum() == 1 and (seen[~images.target_tiles(row)] < 2).all()


def test_several_targets_are_different_images_of_one_class() -> None:
    images = collages(grid=3, targets_per_image=3)
    for row in range(6):
        seen = images[row].reshape(3, 4, 3, 4, 3)[:, 0, :, 0, 0]
        expected = {101, 102, 103} if row < 3 else {104, 105, 106}
        assert set(seen[images.target_tiles(row)].tolist()) == expected


def test_more_targets_than_images_of_the_class_repeat_some() -> None:
    images = collages(grid=2, targets_per_image=4)
    assert images.target_tiles(0).all() and set(np.unique(images[0])) <= {101, 102, 103}


def test_a_grid_of_one_shows_the_target_alone() -> None:
    images = collages(grid=1)
    assert images[4].shape == (4, 4, 3) and (images[4] == 105).all() and images.target_tiles(4).all()


def test_a_row_is_always_the_same_picture_and_a_drawing_depends_on_its_generator() -> None:
    images, again = emoji().test.images, emoji().test.images
    np.testing.assert_array_equal(images[5], again[5])
    one, same, other = (images.draw(5, numpy_generator(0, step)) for step in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any() and (emoji(seed=1).test.images[5] != images[5]).any()


def test_targets_can_lie_at_one_place_always() -> None:
    images = collages(target_place=2)
    for row in range(6):
        drawn = images.draw(row, numpy_generator(0, row)).reshape(2, 4, 2, 4, 3)[:, 0, :, 0, 0]
        for seen in (images[row].reshape(2, 4, 2, 4, 3)[:, 0, :, 0, 0], drawn):
            assert seen[1, 0] == 101 + row and (seen.flatten()[[0, 1, 3]] < 2).all()
        assert images.target_tiles(row).flatten().tolist() == [False, False, True, False]


def test_positions_are_drawn_evenly() -> None:
    images = emoji().test.images
    places = [int(images.target_tiles(row).argmax()) for row in range(600)]
    assert min(np.bincount(places, minlength=4)) > 110  # 150 each, standard deviation 10.6


def test_crops_change_the_tiles_of_a_drawing_alone() -> None:
    whole, cropped = emoji(crop=1.0).train.images, emoji(crop=0.3).train.images
    np.testing.assert_array_equal(whole[0], cropped[0])
    drawn = cropped.draw(0, numpy_generator(0)), whole.draw(0, numpy_generator(0))
    assert (drawn[0] != drawn[1]).any()


def test_targets_and_backgrounds_of_train_and_test_are_disjoint() -> None:
    train, test = emoji()
    read = read_emoji(EMOJI)
    assert not set(train.class_names) & set(test.class_names)
    groups = dict(zip(np.array(read.class_names)[read.labels], read.groups, strict=True))
    assert {groups[name] for name in (*train.class_names, *test.class_names)} == set(TARGETS)
    backgrounds = [{tile.tobytes() for tile in half.images._tiles.backgrounds} for half in (train, test)]
    assert all(len(half) > 500 for half in backgrounds) and not backgrounds[0] & backgrounds[1]


def test_a_batch_holds_a_new_collage_of_an_image_at_each_step_and_depends_on_seed_and_step_alone() -> None:
    train, _ = emoji()
    transform = TrainingTransform(size=64, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    sampler = ClassBalancedSampler(train.labels, classes_per_batch=2, images_per_class=2, seed=0)

    def batches(start: int, workers: int) -> list[torch.Tensor]:
        found = training_batches(train, transform, sampler, seed=0, start=start, stop=3, num_workers=workers)
        return [batch.images for batch in found]

    torch.testing.assert_close(batches(0, 0)[2], batches(2, 0)[0], rtol=0, atol=0)
    same_row = [
        draw_image(train.images, int(train.rows[7]), numpy_generator(0, "augmentation", step, 0))
        for step in (0, 1)
    ]
    assert (same_row[0] != same_row[1]).any()


def test_cifar100_splits_each_superclass_by_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose_config: Compose
) -> None:
    write_official_format(tmp_path / "cifar100", monkeypatch)
    train, test = build(compose_config("dataset=collage_cifar100", f"paths.data={tmp_path}").dataset)
    assert train.class_names == test.class_names and len(train.class_names) == 16
    assert (len(train), len(test)) == (16 * 3 * 3, 16 * 2 * 3)  # 28,800 and 19,200 of the real 600 a class
    assert len(train.images._tiles.backgrounds) == 4 * 3 * 3
    assert train.image(0).shape == (64, 64, 3)


@pytest.mark.parametrize(("name", "size"), [("collage", 64), ("distilled", 32)])
def test_the_words_of_the_command_line_read_into_pictures_of_the_size_that_the_model_sees(
    name: str, size: int, compose_config: Compose
) -> None:
    cfg = compose_config(f"dataset={name}")
    train, test = build(cfg.dataset)
    assert cfg.transform.size == size and test.image(0).shape == (size, size, 3)
    assert (train.num_classes, len(train), test.num_classes, len(test)) == (300, 2302, 287, 2204)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_place": 4}, r"target_place=4: on a grid of 2 × 2 .* the places 0 to 3"),
        ({"base": "mnist"}, "dataset.base=mnist; accepted: emoji, cifar100"),
        ({"grid": 0}, "dataset.grid=0"),
        ({"targets_per_image": 5}, "dataset.targets_per_image=5: a grid of 2 × 2 has room for 1 to 4"),
        ({"size": 0}, "dataset.size=0: a collage of 2 × 2 tiles needs a multiple of 2"),
        (
            {"grid": 3},
            "dataset.size=64: a collage of 3 × 3 tiles needs a multiple of 3: give another transform.size",
        ),
        ({"crop": 0.0}, r"dataset.crop=0.0.*\(0, 1\]"),
        ({"target_groups": []}, "dataset.target_groups is empty"),
        ({"background_groups": ["Trees"]}, "'Trees', which is no group; accepted: Activities"),
        (
            {"background_groups": ["Food & Drink"]},
            "in dataset.target_groups and in dataset.background_groups",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        emoji(**changes)
