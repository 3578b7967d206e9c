"""Tar and zip files as a data set: what is read from them is what is read from a folder, or is refused by name."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dml.data import EvaluationTransform, TrainTest, evaluation_batches, folder, shards
from tests.data.many_forms import photographs, samples, write_folder, write_tar, write_zip

FILES = photographs()


def read(root: Path | str | list[str], place: Path, **options: object) -> TrainTest:
    settings = {"short_side": 6, "cache": False, "cache_folder": str(place / "cache")}
    return shards(root if isinstance(root, list) else str(root), **{**settings, **options})  # type: ignore[arg-type]


def pictures(data: TrainTest) -> list[dict[str, list[bytes]]]:
    """Of each half, class -> pixels of its images."""
    return [
        {
            name: sorted(
                part.image(i).tobytes() + bytes(part.image(i).shape)
                for i in np.flatnonzero(part.labels == label)
            )
            for label, name in enumerate(part.class_names)
        }
        for part in data
    ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> TrainTest:
    root = write_folder(tmp_path_factory.mktemp("folder"), FILES)
    return folder(str(root), short_side=6, cache=False, cache_folder="")


def dealt(write: Callable[[Path, dict[str, bytes]], Path], suffix: str) -> Callable[[Path], None]:
    """Three shards, their images dealt in turn."""

    def deal(root: Path) -> None:
        names = list(FILES)
        for i in range(3):
            write(root / f"set-{i:03d}.{suffix}", {name: FILES[name] for name in names[i::3]})

    return deal


def other(*words: object) -> bytes:
    """A picture with content of its own."""
    return FILES["plum/0.jpg"] + str(words).encode()


FORMS: dict[str, Callable[[Path], object]] = {
    "tar": dealt(write_tar, "tar"),
    "zip": dealt(write_zip, "zip"),
    "stored": lambda root: write_zip(root / "a.zip", FILES, zipfile.ZIP_STORED),
    "one folder in a tar": lambda root: write_tar(
        root / "a.tar", {f"./photos/{n}": c for n, c in FILES.items()}
    ),
    "both": lambda root: (
        write_tar(root / "a" / "x.tar", dict(list(FILES.items())[:13])),
        write_zip(root / "b" / "x.zip", dict(list(FILES.items())[13:])),
    ),
    "cls": lambda root: write_tar(root / "a.tar", samples(FILES, "cls")),
    "txt": lambda root: write_zip(root / "a.zip", samples(FILES, "txt")),
    "json": lambda root: write_tar(root / "a.tar", samples(FILES, "json")),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_set_in_shards_has_the_splits_labels_and_pixels_of_the_same_set_in_a_folder(
    form: str, expected: TrainTest, tmp_path: Path
) -> None:
    FORMS[form](tmp_path)
    data = read(tmp_path, tmp_path)
    assert pictures(data) == pictures(expected)
    kept = read(tmp_path, tmp_path, cache=True)  # from the index, and then from the cache of pixels
    assert pictures(kept) == pictures(expected) and list((tmp_path / "cache").glob("shards-*.pixels"))


def test_how_the_images_are_dealt_to_shards_changes_no_order(expected: TrainTest, tmp_path: Path) -> None:
    FORMS["tar"](tmp_path)
    for part, other in zip(read(tmp_path, tmp_path), expected, strict=True):
        assert [name.split("/", 1)[1] for name in part.files] == list(other.files)
        np.testing.assert_array_equal(part.labels, other.labels)


def test_threads_and_other_processes_read_what_one_reads(tmp_path: Path) -> None:
    FORMS["zip"](tmp_path)
    train, _ = read(tmp_path, tmp_path)
    alone = [train.image(i).tobytes() for i in range(len(train))]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: train.image(i).tobytes(), list(range(len(train))) * 4)) == alone * 4
    with multiprocessing.get_context("fork").Pool(1) as processes:
        assert processes.map(as_bytes, [(train.images, int(row)) for row in train.rows]) == alone
    sent = pickle.dumps(train.images)
    assert [as_bytes((pickle.loads(sent), int(row))) for row in train.rows] == alone
    assert len(sent) < 100 * len(FILES) + 2000


def as_bytes(request: tuple) -> bytes:
    images, row = request
    return images[row].tobytes()


def test_batches_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    FORMS["tar"](tmp_path)
    train, _ = read(tmp_path, tmp_path)
    transform = EvaluationTransform(size=4, resize=6, whole_pixels=True)
    one, other = (list(evaluation_batches(train, transform, batch_size=5, num_workers=n)) for n in (0, 2))
    assert all(a.images.equal(b.images) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "root",
    ["", "set-*.tar", "set-{000..002}.tar", ["set-000.tar", "set-00[12].tar"], ["set-000.tar", "."]],
)
def test_shards_are_found_by_folder_pattern_range_and_list(root: str | list[str], tmp_path: Path) -> None:
    FORMS["tar"](tmp_path)
    (tmp_path / "set.tar.md5").write_text("no shard")
    places = [f"{tmp_path}/{one}" for one in ([root] if isinstance(root, str) else root)]
    data = read(places if isinstance(root, list) else places[0], tmp_path)
    assert len(data.train) + len(data.test) == len(FILES)


@pytest.mark.parametrize("root", ["nowhere", "set-*.tar", "set-{000..003}.tar"])
def test_shards_that_are_not_there_are_named(root: str, tmp_path: Path) -> None:
    if "{" in root:
        FORMS["tar"](tmp_path)
    with pytest.raises(FileNotFoundError, match=r"dataset.root=.*nothing is at .*; give a folder"):
        read(tmp_path / root, tmp_path)


def test_a_folder_without_shards_and_shards_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no \.tar or \.zip files"):
        read(tmp_path, tmp_path)
    write_tar(tmp_path / "a.tar", {"a/readme": b"x"})
    with pytest.raises(ValueError, match=r"its 1 shards hold no images"):
        read(tmp_path, tmp_path)


def test_a_range_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\{9\.\.1\} is no range of shards"):
        read(tmp_path / "a-{9..1}.tar", tmp_path)


def test_one_shard_under_two_names_is_refused_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    FORMS["tar"](tmp_path)
    (tmp_path / "all").symlink_to(tmp_path)
    assert len(read(tmp_path, tmp_path).train)
    (tmp_path / "favourite.tar").symlink_to(tmp_path / "set-001.tar")
    with pytest.raises(ValueError, match=r"favourite\.tar and .*set-001\.tar are one file.*twice"):
        read(tmp_path, tmp_path)


def test_a_copy_of_a_shard_is_refused(tmp_path: Path) -> None:
    FORMS["zip"](tmp_path)
    (tmp_path / "set-000 (1).zip").write_bytes((tmp_path / "set-000.zip").read_bytes())
    with pytest.raises(ValueError, match=r"set-000 \(1\)\.zip and .*set-000\.zip have equal content"):
        read(tmp_path, tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMS["tar"](tmp_path)
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(place: str) -> object:
        if str(place).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OSError, match=r"locked cannot be looked through: Permission denied"):
        read(tmp_path, tmp_path)


@pytest.mark.parametrize("place", ["{}-000.tar", "{}/000.tar", "birds/{}_1.tar"])
def test_shards_called_train_and_test_are_a_split_unless_the_hash_is_asked_for(
    place: str, tmp_path: Path
) -> None:
    write_tar(
        tmp_path / place.format("train"),
        {f"{c}/{i}.jpg": other(c, i) for c in ("plum", "pear") for i in "12"},
    )
    write_tar(
        tmp_path / place.format("Test"),
        {f"{c}/{i}.jpg": other(c, i) for c in ("apple", "quince") for i in "12"},
    )
    given, hashed = read(tmp_path, tmp_path), read(tmp_path, tmp_path, split="hash")
    assert (given.train.class_names, given.test.class_names) == (("pear", "plum"), ("apple", "quince"))
    assert hashed.test.class_names == ("pear", "quince")


def test_folders_train_and_test_in_the_shards_are_a_split_unless_the_hash_is_asked_for(
    tmp_path: Path,
) -> None:
    halves = {"apple": "train", "plum": "test", "pear": "train"}
    files = {f"{halves[n.split('/')[0]]}/{n}": c for n, c in FILES.items() if n.split("/")[0] in halves}
    write_tar(tmp_path / "a.tar", files)
    assert read(tmp_path, tmp_path).test.class_names == ("plum",)
    assert "plum" in read(tmp_path, tmp_path, split="hash").train.class_names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-0", "val-0"], "after train and val, but 1 are neither train nor test, namely 'val-0.tar'"),
        (["train-0", "test-0", "more"], "1 are neither train nor test, namely 'more.tar'"),
        (["train-0", "train-1"], "after train alone: name each"),
    ],
)
def test_shards_named_after_another_split_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    for i, name in enumerate(names):
        write_tar(tmp_path / f"{name}.tar", {f"{c}/{i}.png": FILES["plum/2.png"] for c in "abcd"})
    with pytest.raises(ValueError, match=message + r".*dataset\.split=hash"):
        read(tmp_path, tmp_path)


def test_a_split_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.split=random; accepted: given, hash"):
        read(tmp_path, tmp_path, split="random")


def test_a_class_in_both_halves_and_images_outside_of_classes_are_refused_as_in_a_folder(
    tmp_path: Path,
) -> None:
    write_tar(tmp_path / "a.tar", {f"{h}/{c}.jpg": other(h, c) for h in ("train/a", "test/a") for c in "12"})
    with pytest.raises(ValueError, match=r"1 classes have images in train and in test, namely 'a'"):
        read(tmp_path, tmp_path)
    write_tar(tmp_path / "a.tar", {"a/1.jpg": FILES["plum/0.jpg"], "loose.jpg": FILES["plum/0.jpg"]})
    with pytest.raises(ValueError, match=r"1 images of the shards lie outside .* namely 'a\.tar/loose\.jpg'"):
        read(tmp_path, tmp_path)


def test_a_class_with_one_image_is_a_warning(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {**FILES, "lemon/only.jpg": other("lemon")})
    with pytest.warns(UserWarning, match=r"1 of 6 classes have one image, namely 'lemon'"):
        read(tmp_path, tmp_path)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_copies_and_names_in_two_forms_are_warned_of_as_in_a_folder(
    write: Callable[[Path, dict[str, bytes]], Path], tmp_path: Path
) -> None:
    write(tmp_path / "a.x.tar", {**FILES, "pear/copy.jpg": FILES["plum/0.jpg"], "e\u0301/1.jpg": other(1)})
    write(tmp_path / "b.x.tar", {"\u00e9/2.jpg": other(2), "\u00e9/3.jpg": other(2)[:-1] + b"!"})
    with pytest.warns(UserWarning) as found:
        data = read(tmp_path, tmp_path)
    said = " ".join(str(warning.message) for warning in found)
    assert "1 images of dataset.root=" in said and "a.x.tar/pear/copy.jpg = a.x.tar/plum/0.jpg" in said
    assert "1 of 1 groups of copies lie in train and in test, 1 in several classes" in said
    assert "1 classes are spelled in two forms of Unicode" in said
    assert data.train.num_classes + data.test.num_classes == 6


def test_shards_of_different_layouts_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", FILES)
    write_tar(tmp_path / "b.tar", samples(FILES, "cls"))
    with pytest.raises(ValueError, match=r"in different ways: .*a\.tar by folders; .*b\.tar by \.cls files"):
        read(tmp_path, tmp_path)


def test_what_is_left_out_is_counted_by_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tar(
        tmp_path / "a.tar", {**FILES, "apple/notes.md": b"x", "LICENSE": b"x", "__MACOSX/a/._0.jpg": b"x"}
    )
    with caplog.at_level(logging.INFO):
        read(tmp_path, tmp_path)
    assert "30 images in 1 shards; left out: 1 .jpg, 1 .md, 1 no suffix" in caplog.text


def test_a_picture_that_is_broken_is_named_with_its_shard(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {**FILES, "apple/0.jpg": FILES["apple/0.jpg"][:80]})
    with pytest.raises(OSError, match=r"a\.tar: apple/0\.jpg cannot be read as an image"):
        read(tmp_path, tmp_path, cache=True)


def test_changed_shards_lead_to_another_cache_even_with_the_same_size_and_time(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FILES, zipfile.ZIP_STORED)
    stat = path.stat()
    before = read(tmp_path, tmp_path, cache=True)
    swapped = {**FILES, "apple/0.jpg": FILES["apple/5.webp"], "apple/5.webp": FILES["apple/0.jpg"]}
    write_zip(path, swapped, zipfile.ZIP_STORED)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    after = read(tmp_path, tmp_path, cache=True)
    assert before.train.image(0).tobytes() != after.train.image(0).tobytes()


def test_a_short_side_that_is_no_size_is_refused(tmp_path: Path) -> None:
    FORMS["tar"](tmp_path)
    with pytest.raises(ValueError, match=r"transform\.short_side=0 must be a positive number"):
        read(tmp_path, tmp_path, short_side=0)
