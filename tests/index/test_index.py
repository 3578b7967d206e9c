from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dml
from dml.errors import FileError, InputError, MissingFileError
from dml.index.building import add_to_index
from dml.index.index import Hit, open_index
from tests.index.small_model import small_model


def test_the_most_similar_come_first_with_the_product_of_the_vectors(photo_index: Path, photos: Path) -> None:
    assert dml.open_index is open_index
    paths = sorted(photos.rglob("*.png"))
    vectors = small_model().embed(paths).numpy().astype(float)
    with open_index(photo_index) as index:
        assert len(index) == 9
        (hits,) = index.search([paths[4]], k=9)
    scores = vectors @ vectors[4]
    order = np.lexsort([np.arange(9), -scores])
    assert [hit.path for hit in hits] == [str(paths[i]) for i in order] and hits[0].path == str(paths[4])
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-6)
    assert isinstance(hits[0], Hit) and hits[0].match is None and hits[0].label is None


def test_images_come_in_every_form(photo_index: Path, photos: Path) -> None:
    path = photos / "class 1" / "3.png"
    with open_index(photo_index) as index:
        answers = index.search(
            [path, str(path), Image.open(path), path.read_bytes(), io.BytesIO(path.read_bytes())]
        )
        vectors = index.search_vectors(small_model().embed([path]).numpy().astype(np.float64))
    assert all(answer[0].path == str(path) for answer in answers) and len({len(a) for a in answers}) == 1
    assert [hit.path for hit in vectors[0]] == [hit.path for hit in answers[0]]


def test_equal_images_come_in_the_order_of_their_numbers(
    photo_index: Path, photos: Path, draw: Callable[..., Path]
) -> None:
    for name in ("z", "a", "m"):
        shutil.copy(photos / "class 0" / "0.png", photos / f"{name}.png")
        add_to_index(photo_index, [photos / f"{name}.png"])
    (hits,) = open_index(photo_index).search([photos / "class 0" / "0.png"], k=4)
    assert [Path(hit.path).name for hit in hits] == ["0.png", "z.png", "a.png", "m.png"]
    assert len({hit.score for hit in hits}) == 1 and [hit.item for hit in hits] == sorted(
        hit.item for hit in hits
    )


def test_a_bound_leaves_out_what_is_less_similar(photo_index: Path, photos: Path) -> None:
    with open_index(photo_index) as index:
        (everything,) = index.search([photos / "class 0" / "0.png"], k=9)
        (some,) = index.search([photos / "class 0" / "0.png"], k=9, above=everything[3].score)
        (none,) = index.search([photos / "class 0" / "0.png"], above=1.5)
    assert some == everything[:4] and none == []


def test_numbers_and_vectors_that_do_not_fit_are_refused(photo_index: Path, photos: Path) -> None:
    with open_index(photo_index) as index:
        for k in (0, 10):
            with pytest.raises(InputError, match=rf"k={k}, and .*index has 9 images: ask for 1 to 9"):
                index.search([photos / "class 0" / "0.png"], k=k)
        for vectors in (np.ones((2, 9)), np.ones(8)):
            with pytest.raises(
                InputError, match=r"have 8 dimensions: embed the queries with its model, seed-0/best"
            ):
                index.search_vectors(vectors)
        with pytest.raises(InputError, match="has NaN or infinity"):
            index.search_vectors(np.full((1, 8), np.nan))
        with pytest.raises(FileError, match=r"gone\.png cannot be read"):
            index.search([photos / "gone.png"])
        assert len(index.search([photos / "class 0" / "0.png"])[0]) == 9  # ten, or all that there are


def test_the_run_is_found_where_it_was_or_where_it_is_said_to_be(
    photo_index: Path, photos: Path, run: Path, tmp_path: Path
) -> None:
    run.rename(tmp_path / "moved-0")
    query = [photos / "class 0" / "0.png"]
    with pytest.raises(
        MissingFileError, match=r"was made by the run .*seed-0, which is not there.*--run RUN"
    ):
        open_index(photo_index).search(query)
    assert open_index(photo_index, run=tmp_path / "moved-0").search(query)
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "config.yaml").touch()
    with pytest.raises(
        InputError, match=r"vectors of the model seed-0/best \w{12}, and this is the model \w{12}"
    ):
        open_index(photo_index, run=tmp_path / "seed-1").search(query)


def test_nothing_is_loaded_for_vectors_that_are_there_already(
    photo_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dml.index.index.load_model", None)
    index = open_index(photo_index)
    stored = np.stack([vector for _, vector in index])
    assert [hits[0].item for hits in index.search_vectors(stored)] == [item.id for item, _ in index]
