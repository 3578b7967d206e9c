"""Each image of a folder is taken once, whatever leads to it, and what is not taken is counted or refused."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from dml.data import formats
from dml.data.discovery import LINKED, find_images
from tests.trial_sets import CHANCE, read_folder, read_table, recall, write_colours, write_noise

ONCE = r"folders of .* lead to folders that are read anyway, .*each image counts once"


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    return write_noise(tmp_path / "photos")


def sizes(root: Path) -> tuple[int, int]:
    train, test = read_folder(root)
    assert recall(test) < CHANCE
    return len(train), len(test)


def add_thumbnails(root: Path, folder: str) -> None:
    for image in list(root.glob("class *")):
        shutil.copytree(image, image / folder / "small")


def link(root: Path, name: str, target: str) -> None:
    (root / name).symlink_to(target)


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found", ".thumbs"])
def test_what_a_system_puts_beside_images_is_no_image(name: str, noise: Path) -> None:
    before = sizes(noise)
    add_thumbnails(noise, name)
    assert sizes(noise) == before
    assert sum(map(len, find_images(noise).left_out.values())) == 40


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("all", "."),
        ("up", "../photos"),
        ("class 1/again", ".."),
        ("a favourite", "class 2"),  # sorted before what it leads to
        ("class 2/deep", "../class 3"),
    ],
)
def test_a_link_to_a_folder_that_is_read_anyway_adds_no_image(name: str, target: str, noise: Path) -> None:
    before = sizes(noise)
    link(noise, name, target)
    with pytest.warns(UserWarning, match=ONCE):
        assert sizes(noise) == before
    assert find_images(noise).left_out[LINKED] == [f"{name}/"]


def test_two_links_to_one_folder_elsewhere_are_one_class(noise: Path, tmp_path: Path) -> None:
    shutil.move(noise / "class 1", tmp_path / "elsewhere")
    link(noise, "class 1", "../elsewhere")
    before = sizes(noise)
    link(noise, "class 1 again", str(tmp_path / "elsewhere"))
    with pytest.warns(UserWarning, match=ONCE):
        assert sizes(noise) == before


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_one_file_in_two_classes_is_refused_and_within_a_class_counts_once(
    make: Callable[[Path, Path], None], noise: Path
) -> None:
    before = sizes(noise)
    make(noise / "class 1" / "0.png", noise / "class 1" / "also.png")
    assert sizes(noise) == before
    make(noise / "class 1" / "0.png", noise / "class 2" / "also.png")
    with pytest.raises(ValueError, match=r"1 images of .* in two class folders, .*one file under two names"):
        read_folder(noise)


@pytest.mark.parametrize(
    "other", ["class 0/0.png", "./class 0/./0.png", "class 1/../class 0/0.png", "ABSOLUTE"]
)
def test_a_table_that_names_an_image_twice_is_refused_however_it_spells_it(other: str, noise: Path) -> None:
    other = str(noise / "class 0/0.png") if other == "ABSOLUTE" else other
    (noise / "items.csv").write_text(f"path,label\nclass 0/0.png,a\nclass 1/0.png,b\n{other},a\n")
    with pytest.raises(ValueError, match=r"names 1 more than once, namely 'class 0/0.png'.*one line; remove"):
        read_table(noise / "items.csv")


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_a_table_that_names_an_image_by_a_link_is_refused(
    make: Callable[[Path, Path], None], noise: Path
) -> None:
    make(noise / "class 0" / "0.png", noise / "linked.png")
    (noise / "items.csv").write_text("path,label\nclass 0/0.png,a\nlinked.png,b\n")
    with pytest.raises(ValueError, match=r"more than once, namely 'class 0/0.png' = 'linked.png'"):
        read_table(noise / "items.csv")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".avif", ".mpo", ".JP2", ".tga", "", ".0001", ".JPG~"])
def test_all_that_pillow_reads_is_an_image(suffix: str, tmp_path: Path) -> None:
    colours = write_colours(tmp_path / "photos")
    kind = {".avif": "AVIF", ".JP2": "JPEG2000", ".tga": "TGA", ".mpo": "MPO"}.get(suffix, "JPEG")
    for path in colours.rglob("*.png"):
        Image.open(path).save(path.with_suffix(suffix), kind)
        path.unlink()
    train, test = read_folder(colours)
    assert (len(train) + len(test), train.num_classes + test.num_classes) == (96, 24)
    assert recall(test) == 1


def test_what_is_no_image_is_left_out_with_its_reason(noise: Path) -> None:
    for name in ("notes.txt", "IMG.CR2", "Thumbs.db", ".DS_Store", "list.csv", "features.h5", "empty"):
        (noise / "class 1" / name).write_bytes(b"" if name == "empty" else b"II*\0 something")
    os.mkfifo(noise / "class 1" / "queue.png")
    found = find_images(noise)
    assert {reason: len(names) for reason, names in found.left_out.items()} == {
        "not images": 4,
        formats.RAW: 1,
        "of the system": 1,
        "hidden": 1,
        "pipes, sockets or devices": 1,
    }
    assert len(found.files) == 120


@pytest.mark.parametrize("target", ["nowhere.png", "gone.png"])
def test_a_link_that_leads_nowhere_or_in_a_circle_is_refused(target: str, noise: Path) -> None:
    link(noise / "class 1", "gone.png", target)
    with pytest.raises(OSError, match=r"1 files or folders cannot be read, namely 'class 1/gone.png' \("):
        read_folder(noise)


def test_an_empty_file_is_refused_in_a_folder_and_in_a_table(noise: Path) -> None:
    (noise / "class 1" / "0.png").write_bytes(b"")
    (noise / "items.csv").write_text("path,label\nclass 1/0.png,a\nclass 2/0.png,b\n")
    for read in (lambda: read_folder(noise), lambda: read_table(noise / "items.csv")):
        with pytest.raises(OSError, match=r"1 files or folders .* namely 'class 1/0.png' \(it is empty\)"):
            read()


def test_a_folder_that_may_not_be_read_is_refused(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "class 7":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OSError, match=r"namely 'class 7' \(permission denied\): mend or remove"):
        read_folder(noise)


def test_a_file_that_may_not_be_read_is_refused(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: "class 7" not in str(path))
    with pytest.raises(
        OSError, match=r"3 files or folders .* first are 'class 7/0.png' \(permission denied\)"
    ):
        read_folder(noise)


@pytest.mark.parametrize("name", ["phone.HEIC", "phone.heif", "phone"])
def test_images_of_phones_are_not_passed_over_where_nothing_reads_them(name: str, noise: Path) -> None:
    (noise / "class 1" / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (noise / "items.csv").write_text(f"path,label\nclass 1/{name},a\nclass 2/0.png,b\n")
    with pytest.raises(ValueError, match=r"1 of 121 images are in HEIC or AVIF.*pip install pillow-heif"):
        read_folder(noise)
    with pytest.raises(ValueError, match=r"1 of 2 images are in HEIC or AVIF.*pip install pillow-heif"):
        read_table(noise / "items.csv")


def test_images_of_phones_are_taken_where_pillow_heif_is_installed(
    noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register() -> None:
        monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")
        monkeypatch.setitem(Image.OPEN, "HEIF", Image.OPEN["PNG"])

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    formats.register_heif()
    (noise / "class 1" / "0.png").rename(noise / "class 1" / "0.heic")
    assert "class 1/0.heic" in find_images(noise).files
    monkeypatch.undo()
    formats.register_heif()


def test_where_pillow_heif_is_missing_nothing_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats.register_heif()
    assert ".heic" not in formats.readable_suffixes()
