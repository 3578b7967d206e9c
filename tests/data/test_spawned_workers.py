"""Data workers that are no forks of their parent: the same bits, and little to pickle for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from numpy.typing import NDArray

from dml.data import (
    ClassBalancedSampler,
    EvaluationTransform,
    ImageStore,
    Records,
    TrainingTransform,
    evaluation_batches,
    training_batches,
)
from dml.data.cache import CachedImages, cached
from dml.data.collage import CollageImages, Tiles
from dml.data.image_files import ImageFiles
from dml.data.records import draw_image
from dml.data.sharing import SharedImages, pack_names, unpack_names
from dml.types import Batch
from tests.data.conftest import write_pictures

CROP = TrainingTransform(size=8, scale=(0.3, 1.0), ratio=(1.0, 1.0), flip=0.5)
MANY, PLACE = 100_000, Path("data")


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def collage(count: int) -> CollageImages:
    names = tuple(f"a rather long name/{i}.png" for i in range(count))
    tiles = Tiles(pixels(count), np.arange(count) % 6, tuple("abcdef"), names, pixels(50))
    return CollageImages(tiles, grid=2, targets_per_image=2, size=16, crop=0.5, seed=0)


def files(count: int, folder: Path = PLACE) -> ImageFiles:
    return ImageFiles(folder, tuple(f"class {i % 6}/Güneş {i}.jpg" for i in range(count)), 16)


def cache(folder: Path) -> CachedImages:
    return cached(files(12, folder), folder / "cache", "x")


class SideBySide:
    """An image of each store in one, so that a single worker shows what all of them are."""

    def __init__(self, folder: Path) -> None:
        self.stores = (SharedImages(pixels(12)), collage(12), files(12, folder), cache(folder))

    def __getitem__(self, row: int, /) -> NDArray[np.uint8]:
        return np.concatenate([store[row][:8, :8] for store in self.stores])

    def draw(self, row: int, generator: np.random.Generator) -> NDArray[np.uint8]:
        return np.concatenate([draw_image(store, row, generator)[:8, :8] for store in self.stores])


@pytest.fixture
def spawned() -> Iterator[None]:
    """Workers start as on macOS and Windows."""
    before = torch.multiprocessing.get_start_method(allow_none=True)
    torch.multiprocessing.set_start_method("spawn", force=True)
    yield
    torch.multiprocessing.set_start_method(before, force=True)


def test_spawned_workers_give_the_same_bits_of_every_store(spawned: None, tmp_path: Path) -> None:
    write_pictures(tmp_path, files(12).files)
    store, labels = SideBySide(tmp_path), np.arange(12) % 6
    records = Records(store, np.arange(12)[::-1].copy(), labels, tuple("abcdef"), tuple("abcdefghijkl"))
    sampler = ClassBalancedSampler(labels, classes_per_batch=2, images_per_class=2, seed=5)

    def batches(num_workers: int) -> list[Batch]:
        return list(
            training_batches(records, CROP, sampler, seed=5, start=0, stop=4, num_workers=num_workers)
        )

    for one, other in zip(batches(0), batches(2), strict=True):
        assert all(a.equal(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("make", [lambda n: SharedImages(pixels(n)), collage, files])
def test_what_a_worker_gets_of_100_000_images_is_small(make: Callable[[int], ImageStore]) -> None:
    store = make(MANY)
    assert len(ForkingPickler.dumps(store)) < 10_000
    rows = np.arange(MANY)
    records = Records(store, rows, rows, tuple(map(str, rows)), tuple(map(str, rows)))
    sampler = ClassBalancedSampler(rows[:12] % 6, classes_per_batch=2, images_per_class=2, seed=5)
    with pytest.MonkeyPatch.context() as patch:
        loaders: list[torch.utils.data.DataLoader[Batch]] = []
        patch.setattr("dml.data.loading._in_one_sentence", loaders.append)
        training_batches(records, CROP, sampler, seed=5, start=0, stop=2, num_workers=2)
        evaluation_batches(records, EvaluationTransform(size=8, resize=8), batch_size=7, num_workers=2)
    assert [len(ForkingPickler.dumps(loader.dataset)) < 10_000 for loader in loaders] == [True, True]


def test_names_of_files_come_back_as_they_were(tmp_path: Path) -> None:
    names = ("a.jpg", "Güneş 日本.jpg", "not\udcff utf-8.jpg", "")
    assert unpack_names(pack_names(names)) == names and unpack_names(pack_names(())) == ()
