"""What is said of an index that is no longer one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dml.errors import InputError, MissingFileError
from dml.index import store
from dml.index.building import add_to_index
from dml.index.checking import check_index
from dml.index.index import open_index
from dml.index.store import Store


def test_a_folder_that_is_no_index_says_how_to_make_one(tmp_path: Path, photo_index: Path) -> None:
    with pytest.raises(MissingFileError, match=r"is no index.*`dml index build RUN FOLDER --to .*`"):
        open_index(tmp_path)
    (photo_index / "index.json").unlink()
    with pytest.raises(MissingFileError, match="is half-made"):
        open_index(photo_index)


def remove_database(folder: Path) -> None:
    (folder / "items.sqlite").unlink()


def scramble_database(folder: Path) -> None:
    (folder / "items.sqlite").write_bytes(b"no database at all" * 100)


def cut_vectors(folder: Path) -> None:
    (folder / "vectors.npy").write_bytes((folder / "vectors.npy").read_bytes()[:-1])


def remove_vectors(folder: Path) -> None:
    (folder / "vectors.npy").unlink()


def scramble_info(folder: Path) -> None:
    (folder / "index.json").write_text('{"format": 1, "dimen')


def list_as_info(folder: Path) -> None:
    (folder / "index.json").write_text("[]")


def lose_a_key(folder: Path) -> None:
    change_info(folder, dimension=None)


def lose_a_row(folder: Path) -> None:
    database = sqlite3.connect(folder / "items.sqlite")
    with database:
        database.execute("DELETE FROM items WHERE row = 3")
    database.close()


def newer(folder: Path) -> None:
    change_info(folder, format=2)


def change_info(folder: Path, **values: object) -> None:
    content = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove_database, r"is damaged, it has no items\.sqlite: restore it"),
        (scramble_database, r"items\.sqlite is damaged \(file is not a database\): restore it"),
        (cut_vectors, r"vectors\.npy is damaged: it has 415 bytes, and 9 items need 416: restore it"),
        (remove_vectors, r"opening .*vectors\.npy: No such file"),
        (scramble_info, r"index\.json is damaged \(.*\): restore it"),
        (list_as_info, r"index\.json is damaged \(.*\): restore it"),
        (lose_a_key, r"index\.json is damaged \(.*dimension None\): restore it"),
        (lose_a_row, r"items\.sqlite is damaged: 8 items, and the last one is at row 8"),
        (newer, r"was written by a newer dml, in format 2; this one reads up to 1: update dml"),
    ],
)
def test_a_damaged_index_is_named_and_left_as_it_is(
    photo_index: Path, photos: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(photo_index)
    before = {path.name: path.read_bytes() for path in photo_index.iterdir() if path.is_file()}
    for use in (lambda: open_index(photo_index), lambda: add_to_index(photo_index, [photos])):
        with pytest.raises((InputError, MissingFileError), match=said):
            use()
    assert {path.name: path.read_bytes() for path in photo_index.iterdir() if path.is_file()} == before


def test_check_finds_a_bit_that_turned_and_what_became_of_the_files(photo_index: Path, photos: Path) -> None:
    assert check_index(photo_index).items == 9
    content = bytearray((photo_index / "vectors.npy").read_bytes())
    content[128 + 4 * 32] ^= 1
    (photo_index / "vectors.npy").write_bytes(content)
    (photos / "class 0" / "0.png").unlink()
    (photos / "class 0" / "1.png").write_bytes(b"another")
    (photo_index / "golden" / "3.image").unlink()
    report = check_index(photo_index)
    assert any("golden" in line for line in report.damaged) and len(report.damaged) == 2
    assert any("4.png is another one than was written" in line for line in report.damaged)
    assert report.missing == [str(photos / "class 0" / "0.png")]
    assert report.changed == [str(photos / "class 0" / "1.png")]


def test_a_block_at_a_time_gives_all_rows(photo_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store(photo_index)
    ((_, whole),) = opened.blocks()
    monkeypatch.setattr(store, "BLOCK_BYTES", 2 * 8 * 4)
    blocks = list(opened.blocks())
    assert [start for start, _ in blocks] == [0, 2, 4, 6, 8]
    assert np.array_equal(np.concatenate([block for _, block in blocks]), whole)
    assert np.array_equal(opened.vectors_of([7, 1]), whole[[7, 1]])


def test_items_are_asked_for_some_at_a_time(photo_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store(photo_index)
    expected = list(opened.items())
    monkeypatch.setattr(store, "AT_ONCE", 3)
    assert list(opened.items()) == expected and len(expected) == 9
    assert list(opened.items_of(range(9)).values()) == expected


def test_whoever_has_opened_an_index_keeps_it_while_it_grows(
    photo_index: Path, photos: Path, draw: Callable[..., Path]
) -> None:
    opened = open_index(photo_index)
    before = opened.search([photos / "class 0" / "0.png"], k=9)
    draw(photos / "new.png", 90)
    add_to_index(photo_index, [photos])
    assert opened.search([photos / "class 0" / "0.png"], k=9) == before and len(opened) == 9
    assert len(open_index(photo_index)) == 10
