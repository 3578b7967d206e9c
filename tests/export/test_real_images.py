"""The images of a certificate: whole classes, as the files that they are, and the same each time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dml.data import Records, Splits
from dml.data.encoded_images import EncodedImages
from dml.data.image_files import ImageFiles
from dml.export.embed import decode
from dml.export.exporting import _as_files
from dml.export.real_images import draw_images
from tests.composed import compose_config

CLASSES, EACH = 6, 3
PIXELS = np.random.default_rng(0).integers(0, 256, (CLASSES * EACH, 8, 6, 3), dtype=np.uint8)


def records(store: object, is_query: NDArray[np.bool_] | None = None) -> Records:
    labels = np.repeat(np.arange(CLASSES), EACH)
    names = tuple(f"class {number}" for number in range(CLASSES))
    files = tuple(f"{number}.png" for number in range(len(labels)))
    return Records(store, np.arange(len(labels)), labels, names, files, is_query)  # type: ignore[arg-type]


def splits(of: Records, *, test: bool = True) -> Splits:
    return Splits(of, of, of if test else None)


def test_classes_come_whole_until_there_are_enough_and_the_same_each_time() -> None:
    drawn = draw_images(splits(records(PIXELS)), 7)
    assert drawn.described == {"part": "test", "images": 9, "classes": 3}
    assert np.bincount(drawn.labels).tolist() == [3, 3, 3]
    assert drawn.files == draw_images(splits(records(PIXELS)), 7).files
    assert draw_images(splits(records(PIXELS), test=False), 100).described == {
        "part": "val",
        "images": 18,
        "classes": 6,
    }


def test_an_image_is_its_own_file_where_it_has_one(tmp_path: Path) -> None:
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    names = tuple(f"{number}.png" for number in range(len(PIXELS)))
    encoded = SimpleNamespace(read=lambda row: (tmp_path / names[row]).read_bytes())
    found = [
        draw_images(splits(records(store)), 100).files
        for store in (ImageFiles(tmp_path, names, 4), EncodedImages(encoded, 4), PIXELS)  # type: ignore[arg-type]
    ]
    assert found[0] == [str(tmp_path / name) for name in names]
    for files in found:
        assert all(np.array_equal(decode(file), pixels) for file, pixels in zip(files, PIXELS, strict=True))


def test_a_data_set_is_neither_cached_nor_looked_through_for_it() -> None:
    cfg = compose_config("dataset=folder", "dataset.root=x", "dataset.cache=true")
    assert _as_files(cfg).dataset.cache is False and cfg.dataset.check is False
    assert "cache" not in _as_files(compose_config()).dataset


def test_queries_search_the_gallery_alone() -> None:
    is_query = np.tile([True, False, False], CLASSES)
    drawn = draw_images(splits(records(PIXELS, is_query)), 100)
    vectors = torch.eye(CLASSES)[drawn.labels]
    assert drawn.map_at_r(vectors) == pytest.approx(1)
    answers = drawn.first_answers(vectors.numpy())
    assert len(answers) == CLASSES and not drawn.is_query[answers].any()  # type: ignore[index]
    assert (drawn.labels[answers] == drawn.labels[drawn.queries]).all()


def test_where_nothing_is_to_be_found_there_is_no_figure() -> None:
    single = Records(PIXELS, np.arange(2), np.arange(2), ("a", "b"), ("a", "b"))
    assert draw_images(splits(single), 10).map_at_r(torch.eye(2)) is None
