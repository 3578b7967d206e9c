"""What an index takes in, what it leaves alone, and what it names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dml.errors import FileError, InputError, MissingFileError, OccupiedError
from dml.index import intake
from dml.index.building import add_to_index, build_index, remove_from_index
from dml.index.checking import check_index
from dml.index.index import open_index
from dml.index.layout import IndexFolder, read_info
from dml.index.store import Store
from dml.locks import lock_folder, unlock_folder
from dml.model import EmbeddingModel
from tests.index.small_model import small_model


def content(folder: Path) -> dict[str, bytes]:
    """The vector of each path."""
    with open_index(folder) as index:
        return {item.path: vector.tobytes() for item, vector in index}


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the model had."""
    sizes: list[int] = []
    original = EmbeddingModel.embed_squares

    def counted(self: EmbeddingModel, squares: torch.Tensor) -> torch.Tensor:
        sizes.append(len(squares))
        return original(self, squares)

    monkeypatch.setattr(EmbeddingModel, "embed_squares", counted)
    return sizes


def test_an_index_holds_what_the_model_makes_of_each_file(photo_index: Path, photos: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    expected = small_model().embed(paths, batch_size=9).numpy()
    found = content(photo_index)
    assert list(found) == list(map(str, paths)) and len(found) == 9
    assert b"".join(found.values()) == expected.tobytes()
    assert np.load(photo_index / "vectors.npy").tobytes() == expected.tobytes()


def test_what_is_known_of_an_image_is_kept(photo_index: Path, photos: Path) -> None:
    import hashlib

    path = photos / "class 1" / "4.png"
    store = Store(photo_index)
    (item,) = [item for item in store.items() if item.path == str(path)]
    assert (item.width, item.height, item.label, item.columns) == (20, 16, None, {})
    assert (item.size, item.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert item.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_called_again_it_embeds_only_what_is_new_or_changed(
    photo_index: Path, photos: Path, run: Path, draw: Callable[..., Path], embedded: list[int]
) -> None:
    before = content(photo_index)
    draw(photos / "class 0" / "0.png", 77, (9, 9))
    draw(photos / "new.png", 50)
    os.utime(photos / "class 1" / "3.png", ns=(5, 5))  # touched, and the same
    changes = build_index(run, [photos], photo_index)
    assert (changes.added, changes.changed, changes.unchanged, changes.items) == (1, 1, 8, 10)
    assert embedded[-1] == 2
    after = content(photo_index)
    assert {path for path in after if after[path] != before.get(path)} == {
        str(photos / "class 0" / "0.png"),
        str(photos / "new.png"),
    }
    assert build_index(run, [photos], photo_index).unchanged == 10
    report = check_index(photo_index)
    assert not (report.damaged or report.missing or report.changed)


def test_a_moved_file_is_known_by_its_content_and_a_copy_takes_its_vector(
    photo_index: Path, photos: Path, embedded: list[int]
) -> None:
    before = content(photo_index)
    (photos / "class 0" / "0.png").rename(photos / "moved.png")
    shutil.copy(photos / "class 0" / "1.png", photos / "copy.png")
    embedded.clear()
    changes = add_to_index(photo_index, [photos])
    assert (changes.moved, changes.copied, changes.added, changes.items) == (1, 1, 0, 10)
    assert embedded == [5]  # the golden images alone
    after = content(photo_index)
    assert after[str(photos / "moved.png")] == before[str(photos / "class 0" / "0.png")]
    assert after[str(photos / "copy.png")] == before[str(photos / "class 0" / "1.png")]


def test_copies_within_one_call_are_embedded_once(
    run: Path, photos: Path, tmp_path: Path, embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        shutil.copy(photos / "class 0" / "0.png", photos / f"{number}.png")
        shutil.copy(photos / "class 0" / "0.png", photos / f"z{number}.png")
    monkeypatch.setattr(intake, "BATCH", 2)
    monkeypatch.setattr(intake, "SAVE_EVERY", 0)
    changes = build_index(run, [photos], tmp_path / "index")
    assert (changes.added, changes.copied, changes.items) == (9, 8, 17)
    found = content(tmp_path / "index")
    same = {found[str(photos / name)] for name in ("0.png", "3.png", "z2.png", "class 0/0.png")}
    assert len(same) == 1 and len(set(found.values())) == 9


def test_what_cannot_be_read_is_named_and_the_rest_is_there(run: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (photos / "empty.png").touch()
    (photos / "nowhere.png").symlink_to("gone")
    (photos / "notes.txt").write_text("hello")
    bomb = Image.new("L", (20000, 20000))
    bomb.save(photos / "bomb.png")
    changes = build_index(run, [photos], tmp_path / "index")
    named = {Path(path).name: reason for path, reason in changes.unreadable.items()}
    assert named.keys() == {"broken.jpg", "empty.png", "nowhere.png", "bomb.png"} and changes.added == 9
    assert "cannot be read" in named["broken.jpg"] and "DML_MAX_PIXELS" in named["bomb.png"]
    assert "notes.txt" in changes.left_out[0]
    again = build_index(run, [photos], tmp_path / "index")
    assert again.unreadable.keys() == changes.unreadable.keys() and again.unchanged == 9


def test_a_table_gives_labels_and_further_columns(run: Path, photos: Path, tmp_path: Path) -> None:
    table = photos / "items.csv"
    table.write_text(
        "path,label,price\nclass 0/0.png,mug,3\nclass 2/8.png,,\ngone.png,cup,4\n", encoding="utf-8"
    )
    changes = build_index(run, [table, photos], tmp_path / "index")
    assert changes.items == 9 and list(changes.unreadable) == [str(photos / "gone.png")]
    items = {Path(item.path).name: item for item in Store(tmp_path / "index").items()}
    assert (items["0.png"].label, items["0.png"].columns) == ("mug", {"price": "3"})
    assert (items["8.png"].label, items["1.png"].label) == (None, None)
    table.write_text("path,label\nclass 0/0.png,cup\n", encoding="utf-8")
    assert build_index(run, [table], tmp_path / "index").unchanged == 1
    items = {Path(item.path).name: item for item in Store(tmp_path / "index").items()}
    assert (items["0.png"].label, items["0.png"].columns) == ("cup", {})
    build_index(run, [photos], tmp_path / "index")  # which says nothing of labels
    assert "cup" in {item.label for item in Store(tmp_path / "index").items()}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na.png,x\n", "has no column path; its first line names file, label"),
        ("path,label\na.png\n", "line 2 has an empty path, or not as many fields"),
        ("path\n\xff", "no table of comma-separated values in UTF-8"),
        ('path\n"a', "no table of comma-separated values"),
    ],
)
def test_a_table_that_is_none_is_refused(run: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "items.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        build_index(run, [tmp_path / "items.csv"], tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_places_without_images_are_refused_and_nothing_is_made(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    with pytest.raises(InputError, match=r"no images in .*notes, which hold .*1 not images"):
        build_index(run, [tmp_path / "notes"], tmp_path / "index")
    with pytest.raises(MissingFileError, match="nothing is not there: give folders"):
        build_index(run, [tmp_path / "nothing"], tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_another_model_is_refused_and_both_are_named(photo_index: Path, photos: Path, tmp_path: Path) -> None:
    before = content(photo_index)
    with pytest.raises(
        InputError, match=r"vectors of the model seed-0/best \w{12}, and this is the model \w{12}"
    ):
        build_index(tmp_path / "seed-1", [photos], photo_index)
    assert content(photo_index) == before


def test_a_folder_that_holds_something_else_is_left_alone(run: Path, photos: Path) -> None:
    with pytest.raises(OccupiedError, match=r"holds something that is no index, such as 'class 0'"):
        build_index(run, [photos], photos)
    assert len(list(photos.rglob("*.png"))) == 9


def test_a_second_writer_is_refused_while_searching_goes_on(
    photo_index: Path, photos: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dml.index.writer.lock_folder", lambda _: False)
    for change in (
        lambda: build_index(run, [photos], photo_index),
        lambda: remove_from_index(photo_index, [photos]),
    ):
        with pytest.raises(OccupiedError, match="is being changed by another process"):
            change()
    assert len(open_index(photo_index).search([photos / "class 0" / "0.png"], k=9)[0]) == 9


def test_the_lock_is_that_of_the_system(photo_index: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if lock_folder(photo_index) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock_folder(photo_index)
    child = os.fork()
    if child == 0:
        import dml.locks

        dml.locks._held.clear()  # a process of its own has none
        os._exit(1 if lock_folder(photo_index) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    unlock_folder(photo_index)


def test_removed_images_are_no_longer_found_and_their_files_stay(photo_index: Path, photos: Path) -> None:
    gone, _ = remove_from_index(photo_index, [photos / "class 1", photos / "class 0" / "2.png"])
    assert len(gone) == 4 and (photos / "class 1" / "3.png").exists()
    with open_index(photo_index) as index:
        hits = index.search([photos / "class 1" / "3.png"])[0]
    assert len(hits) == 5 and not {hit.path for hit in hits} & set(gone)
    info = read_info(IndexFolder(photo_index))
    assert (info.items, info.removed) == (5, 4)
    with pytest.raises(InputError, match=r"class 1 is not in .*, nothing was removed"):
        remove_from_index(photo_index, [photos / "class 0", photos / "class 1"])
    assert len(content(photo_index)) == 5


def test_what_was_removed_stays_removed_until_it_is_added(
    run: Path, photo_index: Path, photos: Path, draw: Callable[..., Path]
) -> None:
    path = photos / "class 0" / "2.png"
    gone, _ = remove_from_index(photo_index, [photos / "class 1", path])
    draw(path, 61)  # another content at the same path
    draw(photos / "class 1" / "new.png", 62)
    changes = build_index(run, [photos], photo_index)
    assert (changes.removed, changes.added, changes.unchanged, changes.items) == (4, 1, 5, 6)
    assert build_index(run, [path], photo_index).items == 6
    assert add_to_index(photo_index, [path]).added == 1 and str(path) in content(photo_index)
    assert (changes := build_index(run, [photos], photo_index)).removed == 3 and changes.items == 7
    assert add_to_index(photo_index, [photos]).items == 10 and content(photo_index).keys() >= set(gone)
    assert build_index(run, [photos], photo_index).removed == 0


def test_names_that_are_no_text_stay_removed(run: Path, photos: Path, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(photos) + b"/\xff.png")
    shutil.copy(photos / "class 0" / "0.png", path)
    build_index(run, [photos], tmp_path / "index")
    remove_from_index(tmp_path / "index", [path])
    assert build_index(run, [photos], tmp_path / "index").removed == 1
    assert add_to_index(tmp_path / "index", [photos]).items == 10


def test_an_image_that_was_missing_comes_back_with_its_file(
    run: Path, photo_index: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.move(photos / "class 2", tmp_path / "away")
    remove_from_index(photo_index, missing=True)
    shutil.move(tmp_path / "away", photos / "class 2")
    assert build_index(run, [photos], photo_index).items == 9


def test_a_name_that_begins_like_a_folder_is_not_below_it(
    photo_index: Path, photos: Path, draw: Callable[..., Path]
) -> None:
    draw(photos / "class 11" / "a.png", 60)
    add_to_index(photo_index, [photos])
    assert len(remove_from_index(photo_index, [photos / "class 1"])[0]) == 3


def test_images_whose_files_are_gone_stay_until_they_are_removed(photo_index: Path, photos: Path) -> None:
    shutil.rmtree(photos / "class 2")
    assert add_to_index(photo_index, [photos]).items == 9
    assert len(check_index(photo_index).missing) == 3
    assert remove_from_index(photo_index, missing=True)[1] == 6
    assert not check_index(photo_index).missing


def test_half_precision_takes_half_the_room_and_finds_the_same(
    run: Path, photos: Path, photo_index: Path, tmp_path: Path
) -> None:
    build_index(run, [photos], tmp_path / "half", dtype="float16")
    sizes = [(folder / "vectors.npy").stat().st_size - 128 for folder in (photo_index, tmp_path / "half")]
    assert sizes[0] == 2 * sizes[1] and np.load(tmp_path / "half" / "vectors.npy").dtype == np.float16
    query = [photos / "class 1" / "3.png"]
    found = [open_index(folder).search(query, k=1)[0][0] for folder in (photo_index, tmp_path / "half")]
    assert found[0].path == found[1].path and abs(found[0].score - found[1].score) < 1e-3
    assert not check_index(tmp_path / "half").damaged
    with pytest.raises(InputError, match="dtype=int8: vectors are stored as float32 or float16"):
        build_index(run, [photos], tmp_path / "bytes", dtype="int8")


def test_names_that_are_no_text_and_look_like_code_are_kept(
    run: Path, photos: Path, tmp_path: Path, draw: Callable[..., Path]
) -> None:
    shutil.copy(photos / "class 0" / "0.png", os.fsencode(tmp_path) + b"/photos/\xff.png")
    draw(photos / "'; DROP TABLE items; --.png", 70)
    build_index(run, [photos], tmp_path / "index")
    names = {os.path.basename(item.path) for item in Store(tmp_path / "index").items()}
    assert {os.fsdecode(b"\xff.png"), "'; DROP TABLE items; --.png"} <= names
    assert build_index(run, [photos], tmp_path / "index").unchanged == 11


def test_a_diverged_model_leaves_no_vectors(
    run: Path, photos: Path, photo_index: Path, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., Path]
) -> None:
    original = EmbeddingModel.embed_squares
    monkeypatch.setattr(
        EmbeddingModel,
        "embed_squares",
        lambda self, x: original(self, x) * (float("nan") if len(x) == 1 else 1),
    )
    draw(photos / "new.png", 80)
    with pytest.raises(InputError, match="NaN or infinity: it diverged"):
        build_index(run, [photos], photo_index)
    assert len(content(photo_index)) == 9


def test_an_interrupt_keeps_what_was_embedded(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BATCH", 2)
    original, calls = EmbeddingModel.embed_squares, []

    def interrupted(self: EmbeddingModel, squares: torch.Tensor) -> torch.Tensor:
        calls.append(len(squares))
        if len(calls) == 4:  # the golden images are the first
            raise KeyboardInterrupt
        return original(self, squares)

    monkeypatch.setattr(EmbeddingModel, "embed_squares", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_index(run, [photos], tmp_path / "index")
    kept = len(content(tmp_path / "index"))
    assert kept == sum(calls[2:-1]) > 0
    changes = build_index(run, [photos], tmp_path / "index")
    assert (changes.unchanged, changes.added, changes.items) == (kept, 9 - kept, 9)


@pytest.mark.parametrize("left", [40, 10_000], ids=["vectors", "database"])
def test_a_full_disk_is_an_error_of_the_user_and_loses_nothing(
    run: Path, photos: Path, tmp_path: Path, left: int
) -> None:
    """A limit on the size of files stands for the end of the disk."""
    import resource
    import signal

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        intake.BATCH, intake.SAVE_EVERY = 2, 0
        build_index(run, [photos / "class 0"], tmp_path / "index")
        size = (tmp_path / "index" / "vectors.npy").stat().st_size + left
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            build_index(run, [photos], tmp_path / "index")
        except FileError as error:
            os._exit(7 if "mend that and start again" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    kept = content(tmp_path / "index")
    assert len(kept) >= 3 and not check_index(tmp_path / "index").damaged
    build_index(run, [photos], tmp_path / "index")
    assert len(content(tmp_path / "index")) == 9
