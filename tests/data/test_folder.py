"""Your own images, one folder per class."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.data import TrainTest, folder
from dml.data.protocols import hashed_half


def write(root: Path, *files: str) -> Path:
    for i, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (i, 0, 0)).save(path)
    return root


def read(root: Path) -> TrainTest:
    return folder(str(root), short_side=None, cache=False, cache_folder="")


def two_each(*names: str) -> list[str]:
    return [f"{name}/{i}.png" for name in names for i in range(2)]


def test_the_hash_of_its_name_decides_the_half_of_a_class(tmp_path: Path) -> None:
    names = ["apple", "pear", "Äpfel & Birnen", "quince", "plum"]
    data = read(write(tmp_path, *two_each(*names)))
    for half, part in zip(("train", "test"), data, strict=True):
        assert set(part.class_names) == {name for name in names if hashed_half(name) == half}
        assert len(part) == 2 * part.num_classes


def test_pictures_are_found_at_any_depth_and_other_files_left_alone(tmp_path: Path) -> None:
    write(
        tmp_path, *two_each("apple", "pear"), "apple/2024/may/x.JPG", "apple/.hidden/y.png", ".trash/z/a.png"
    )
    (tmp_path / "apple" / "notes.txt").write_text("ripe")
    (tmp_path / "readme.md").write_text("fruit")
    train, _ = read(tmp_path)
    assert train.files == ("apple/0.png", "apple/1.png", "apple/2024/may/x.JPG")
    np.testing.assert_array_equal(train.image(1)[0, 0], [1, 0, 0])


def test_folders_train_and_test_are_a_split(tmp_path: Path) -> None:
    train, test = read(write(tmp_path, *two_each("train/pear", "train/apple", "test/plum")))
    assert train.class_names == ("apple", "pear") and test.class_names == ("plum",)


def test_a_class_in_both_halves_is_refused(tmp_path: Path) -> None:
    write(tmp_path, *two_each("train/pear", "train/apple", "test/pear"))
    with pytest.raises(
        ValueError, match=r"1 classes have images in train and in test, namely 'pear'.*never seen"
    ):
        read(tmp_path)


def test_few_classes_that_fall_on_one_side_are_refused_with_the_way_out(tmp_path: Path) -> None:
    write(tmp_path, *two_each("apple", "plum"))
    assert hashed_half("apple") == hashed_half("plum") == "train"
    with pytest.raises(
        ValueError, match=r"all 2 classes are in train: give some to the other half.*the hash"
    ):
        read(tmp_path)


@pytest.mark.parametrize("files", [["loose.png"], ["train/loose.png", "train/a/1.png", "test/b/1.png"]])
def test_pictures_outside_of_every_class_are_named(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"1 images of .* outside of every class folder, namely '.*loose.png'"
    ):
        read(write(tmp_path, *files))


def test_a_root_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset.root=.*nowhere is no folder: give one"):
        read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no images: it needs a folder per class"):
        read(tmp_path)


def test_a_class_with_one_image_is_a_warning_with_its_name(tmp_path: Path) -> None:
    write(tmp_path, *two_each("apple", "pear"), "plum/only.png")
    with pytest.warns(UserWarning, match=r"1 of 3 classes have one image, namely 'plum'.*left out"):
        read(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(tmp_path, *two_each("apple", "pear"), "plum/only.png", "plum/second.png")
        read(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("Train", "Test"), ("TRAIN", "testing"), ("training", "test")])
def test_a_split_is_known_however_it_is_written(one: str, other: str, tmp_path: Path) -> None:
    train, test = read(write(tmp_path, *two_each(f"{one}/pear", f"{one}/apple", f"{other}/plum")))
    assert train.class_names == ("apple", "pear") and test.class_names == ("plum",)


@pytest.mark.parametrize(
    ("tops", "advice"),
    [
        (["train", "valid", "test"], "protocol holds out classes for validation"),
        (["train", "val"], "protocol holds out classes for validation"),
        (["train", "test", "extra"], "move the others into one of the two, or out of the root"),
        (["train", "query", "gallery"], "dataset=table takes queries and a gallery"),
    ],
)
def test_another_split_is_refused_with_the_folders_that_were_seen(
    tops: list[str], advice: str, tmp_path: Path
) -> None:
    write(tmp_path, *two_each(*(f"{top}/{name}" for top in tops for name in ("pear", "apple"))))
    with pytest.raises(ValueError, match=rf"holds the folders {', '.join(sorted(tops))}, which.*{advice}"):
        read(tmp_path)


def test_classes_may_be_called_as_parts_of_a_split_among_others(tmp_path: Path) -> None:
    train, test = read(write(tmp_path, *two_each("train", "car", "boat", "plane", "probe", "doll")))
    assert {*train.class_names, *test.class_names} == {"train", "car", "boat", "plane", "probe", "doll"}


@pytest.mark.parametrize("top", ["dataset", "train"])
def test_a_root_one_folder_too_high_is_refused_with_the_right_one(top: str, tmp_path: Path) -> None:
    write(tmp_path, *two_each(f"{top}/pear", f"{top}/apple"))
    with pytest.raises(
        ValueError, match=rf"one folder alone, namely '{top}'.*dataset.root=.*/{top}; a split"
    ):
        read(tmp_path)


def test_the_log_says_which_layout_was_seen_and_what_was_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, *two_each("Train/pear", "Train/apple", "Test/plum"))
    for name in ("notes.txt", "prices.csv", ".DS_Store"):
        (tmp_path / "Train" / name).write_text("ripe")
    (tmp_path / "Test" / "plum" / "again.png").hardlink_to(tmp_path / "Test" / "plum" / "0.png")
    with caplog.at_level("INFO"):
        read(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}: split by the folders Test, Train; left out: 1 hidden ('Train/.DS_Store'), "
        "2 not images ('Train/notes.txt', ...), 1 other names of images ('Test/plum/again.png')"
    ]


def test_pictures_that_are_all_left_out_are_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "apple").mkdir()
    (tmp_path / "apple" / "1.NEF").write_bytes(b"MM\0*")
    with pytest.raises(ValueError, match=r"holds no images: .*left out: 1 raw files of cameras .*1.NEF"):
        read(tmp_path)


def test_names_that_are_not_in_utf_8_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/k\xe4se"  # Latin-1, as in old archives
    os.mkdir(path)
    with open(path + b"/0.png", "wb") as file:
        Image.new("RGB", (8, 8)).save(file, "PNG")
    with pytest.raises(
        ValueError, match=r"names of 1 images .* cannot be read as UTF-8, .*PYTHONUTF8=1.*rename"
    ):
        folder(str(tmp_path), short_side=None, cache=False, cache_folder="")
