"""An approximate search says how much it finds, orders it exactly, and never finds what is not there."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dml.errors import FileError, InputError, UnavailableError
from dml.index import approximate
from dml.index.building import build_index, remove_from_index
from dml.index.index import open_index
from dml.index.layout import IndexFolder, read_info
from dml.index.printing import Answer, answers_as_dict, how_exact
from dml.index.upgrading import upgrade_index
from dml.index.writer import NewItem, open_writer
from tests.index.clusters import clusters
from tests.index.conftest import draw


def add_vectors(index: Path, vectors: NDArray[np.float32]) -> None:
    """Items without files, each with the label of its place modulo 400."""
    with open_writer(IndexFolder(index)) as writer:
        first = writer.rows
        items = [
            NewItem(f"/none/{first + i}", 1, 1, f"{first + i:064x}", 9, 9, f"label {i % 400}", {})
            for i in range(len(vectors))
        ]
        writer.add(items, vectors)
        writer.finish()


@pytest.fixture
def large(photo_index: Path, photos: Path, run: Path) -> Path:
    """An index of 1,209 images with an approximate search."""
    add_vectors(photo_index, clusters(150, 8)[0])
    build_index(run, [photos], photo_index, approximate=True)
    return photo_index


def test_what_it_finds_is_measured_on_queries_that_no_list_was_made_from(large: Path) -> None:
    with open_index(large) as some, open_index(large, exact=True) as all_of_it:
        recall = some.recall
        assert recall is not None and all_of_it.recall is None
        assert 0.95 <= recall.recall <= 1 and recall.queries == 120 and recall.rows == 1209
        assert 1 <= recall.probes <= recall.lists == 17
        queries, _ = clusters(60, 2, seed=5)
        found, true = some.search_vectors(queries, 10), all_of_it.search_vectors(queries, 10)
    shares = [
        len({a.item for a in ours} & {b.item for b in theirs}) / 10
        for ours, theirs in zip(found, true, strict=True)
    ]
    assert np.mean(shares) > 0.9
    for ours, theirs in zip(found, true, strict=True):
        known = {hit.item: hit.score for hit in theirs}
        assert all(hit.score == known[hit.item] for hit in ours if hit.item in known)
        assert [hit.score for hit in ours] == sorted((hit.score for hit in ours), reverse=True) and len(
            ours
        ) == 10


def test_every_answer_says_that_it_is_not_exact(large: Path) -> None:
    with open_index(large) as index:
        hits = index.search_vectors(clusters(2, 2)[0][:1], 3)
        answer = json.loads(json.dumps(answers_as_dict(index, [Answer("a", hits[0])])))
        assert answer["exact"] is False and answer["recall"] == asdict(index.recall)  # type: ignore[call-overload]
        first, second, *_ = how_exact(index, None)
    assert first.startswith("approximate search of 1,209 images")
    assert second.startswith("recall@10 ") and second.endswith("on 120 held-out images; --exact finds all")


def test_it_answers_alike_where_another_library_has_replaced_methods_of_faiss(large: Path) -> None:
    queries = clusters(2, 2)[0]
    with open_index(large) as index:
        before = index.search_vectors(queries, 5)
    importlib.import_module("faiss.contrib.torch_utils")  # as pytorch-metric-learning does
    with open_index(large) as index:
        assert index.search_vectors(queries, 5) == before


def test_it_is_for_many_images(photo_index: Path, photos: Path, run: Path) -> None:
    with pytest.raises(InputError, match=r"has 9 images, and an approximate search is for 1,000 or more"):
        build_index(run, [photos], photo_index, approximate=True)
    with open_index(photo_index) as index:
        assert index.recall is None and len(index) == 9


def test_later_images_are_found_at_once_and_after_a_tenth_more_it_is_measured_anew(
    large: Path, photos: Path, run: Path
) -> None:
    before = read_info(IndexFolder(large)).approximate
    new = clusters(1, 60, seed=9)[0]
    add_vectors(large, new)
    assert build_index(run, [photos], large).recall is None
    with open_index(large) as index:
        hits = index.search_vectors(new[:20], 1)
    assert [hit.item for (hit,) in hits] == list(range(1210, 1230))
    assert read_info(IndexFolder(large)).approximate == before
    add_vectors(large, clusters(1, 62, seed=10)[0])
    recall = build_index(run, [photos], large).recall
    assert recall is not None and recall["rows"] == 1331 and recall["recall"] >= 0.95
    assert read_info(IndexFolder(large)).approximate == recall


def test_removed_images_are_not_found_and_no_list_is_too_short(large: Path, photos: Path) -> None:
    with open_index(large) as index:
        vector = {item.path: vector for item, vector in index}[str(photos / "class 1" / "4.png")]
    remove_from_index(large, [photos / "class 1"])
    with open_index(large) as index, open_index(large, exact=True) as exact:
        hits = index.search_vectors(vector[None], 1206)[0]
        assert len(hits) == 1206 and not any("class 1/" in hit.path for hit in hits)
        labelled = index.search_vectors(vector[None], 3, label="label 7")
        assert labelled == exact.search_vectors(vector[None], 3, label="label 7") and len(labelled[0]) == 3


def test_an_upgrade_makes_it_for_the_new_model(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here with as few as nine images, as those without files do not come along."""
    monkeypatch.setattr("dml.index.upgrading.FEWEST", 5)
    monkeypatch.setattr(approximate, "FEWEST", 5)
    monkeypatch.setattr(approximate, "PER_CENTRE", 2)
    for number in range(20):
        draw(tmp_path / "more" / f"{number}.png", 100 + number)
    build_index(tmp_path / "seed-0", [tmp_path / "more"], large)
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "config.yaml").touch()
    assert upgrade_index(large, tmp_path / "seed-1").items == 29
    with open_index(large) as index:
        assert index.recall is not None and index.recall.rows == 29
        assert len(index.search([tmp_path / "more" / "3.png"], 29)[0]) == 29


def test_a_full_disk_and_a_library_that_is_missing_are_said_and_the_index_is_whole(
    photo_index: Path, photos: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("No space left on device")

    add_vectors(photo_index, clusters(150, 8)[0])
    monkeypatch.setattr("faiss.write_index", full)
    with pytest.raises(
        FileError, match=r"approximate.faiss cannot be written: No space left .* whole without it"
    ):
        build_index(run, [photos], photo_index, approximate=True)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UnavailableError, match="needs faiss, which cannot be imported"):
        build_index(run, [photos], photo_index, approximate=True)
    with open_index(photo_index) as index:
        assert index.recall is None and len(index) == 1209


@pytest.mark.parametrize("left", ["gone", "of another index"])
def test_without_its_file_the_search_is_exact_and_says_so(large: Path, left: str) -> None:
    file = large / "approximate.faiss"
    if left == "gone":
        file.unlink()
    else:
        info = json.loads((large / "index.json").read_text())
        info["approximate"]["lists"] += 1
        (large / "index.json").write_text(json.dumps(info))
    with open_index(large) as index:
        assert index.recall is None and how_exact(index, None)[0].startswith("exact search")


def test_a_damaged_file_is_said_and_an_exact_search_needs_none(large: Path) -> None:
    (large / "approximate.faiss").write_bytes(b"IwFl" + bytes(40))
    with pytest.raises(InputError, match=r"approximate.faiss is damaged .*--exact. needs none"):
        open_index(large)
    assert len(open_index(large, exact=True)) == 1209
