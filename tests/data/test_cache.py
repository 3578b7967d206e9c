"""The cache: same numbers, built once, and safe against interruption, a second process and a changed source."""

import errno
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dml.data import (
    ClassBalancedSampler,
    EvaluationTransform,
    Records,
    TrainingTransform,
    evaluation_batches,
    training_batches,
)
from dml.data import cache as cache_module
from dml.data.cache import CachedImages, cached
from dml.data.image_files import ImageFiles
from dml.data.records import ImageStore


def write_images(folder: Path, count: int = 12) -> ImageFiles:
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
    return ImageFiles(folder, tuple(f"{i}.jpg" for i in range(count)), 16)


def built(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache").glob("*.pixels"))


def test_cached_images_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    kept = cached(images, tmp_path / "cache", "x")
    assert len(kept) == len(images)
    for row in range(len(images)):
        np.testing.assert_array_equal(kept[row], images[row])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_neither_the_cache_nor_the_workers_change_a_batch(num_workers: int, tmp_path: Path) -> None:
    images = write_images(tmp_path)
    kept = cached(images, tmp_path / "cache", "x")
    for one, other in zip(
        batches(images, 0), batches(pickle.loads(pickle.dumps(kept)), num_workers), strict=True
    ):
        assert all(a.equal(b) for a, b in zip(one, other, strict=True))


def batches(store: ImageStore, num_workers: int) -> list:
    labels = np.arange(12) % 3
    records = Records(store, np.arange(12), labels, ("a", "b", "c"), ("",) * 12)
    training = TrainingTransform(size=8, scale=(0.3, 1.0), ratio=(0.75, 1.5), flip=0.5, whole_pixels=True)
    sampler = ClassBalancedSampler(labels, classes_per_batch=3, images_per_class=2, seed=0)
    evaluation = EvaluationTransform(size=8, resize=16, whole_pixels=True)
    return [
        *training_batches(records, training, sampler, seed=0, start=0, stop=3, num_workers=num_workers),
        *evaluation_batches(records, evaluation, batch_size=5, num_workers=num_workers),
    ]


def test_the_cache_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_images(tmp_path)
    cached(images, tmp_path / "cache", "x")
    monkeypatch.setattr(cache_module, "_build", lambda *_: pytest.fail("built again"))
    assert np.array_equal(cached(images, tmp_path / "cache", "x")[3], images[3])


def test_while_one_builds_another_waits_and_takes_what_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, builds, go_on = write_images(tmp_path), [], threading.Event()
    build = cache_module._build

    def slow_build(*arguments: Any) -> None:
        builds.append(arguments)
        assert go_on.wait(20)
        build(*arguments)

    monkeypatch.setattr(cache_module, "_build", slow_build)
    with ThreadPoolExecutor(2) as pool:  # threads exclude each other as processes do
        waiting = [pool.submit(cached, images, tmp_path / "cache", "x") for _ in range(2)]
        time.sleep(0.3)
        go_on.set()
        for kept in (future.result(20) for future in waiting):
            np.testing.assert_array_equal(kept[5], images[5])
    assert len(builds) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_build_leaves_nothing_that_counts_and_is_repeated(
    kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_decoded", partial(break_off, images, kind))
        with pytest.raises(kind):
            cached(images, tmp_path / "cache", "x")
    assert not built(tmp_path) and not list((tmp_path / "cache").glob("*.partial"))
    np.testing.assert_array_equal(cached(images, tmp_path / "cache", "x")[7], images[7])


def break_off(images: ImageFiles, kind: type[BaseException], _: ImageFiles) -> Iterator[NDArray[np.uint8]]:
    yield images[0]
    raise kind


def test_a_build_that_was_killed_is_repeated(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    path = cached(images, tmp_path / "cache", "x").path
    content = path.read_bytes()
    path.with_suffix(".partial").write_bytes(content[: len(content) // 2])  # as kill -9 leaves it
    path.unlink()
    cached(images, tmp_path / "cache", "x")
    assert path.read_bytes() == content and not path.with_suffix(".partial").exists()


def test_without_locks_two_processes_build_beside_each_other_and_not_into_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    images, seen = write_images(tmp_path), []
    monkeypatch.setattr(
        cache_module.os, "fsync", lambda _: seen.extend((tmp_path / "cache").glob("*.partial"))
    )
    np.testing.assert_array_equal(cached(images, tmp_path / "cache", "x")[3], images[3])
    assert [path.suffixes[-2:] for path in seen] == [[f".{os.getpid()}", ".partial"]]


@pytest.mark.parametrize("length", [0, 20, -1])
def test_a_file_that_was_cut_is_built_anew(length: int, tmp_path: Path) -> None:
    images = write_images(tmp_path)
    path = cached(images, tmp_path / "cache", "x").path
    content = path.read_bytes()
    path.write_bytes(content[:length])
    np.testing.assert_array_equal(cached(images, tmp_path / "cache", "x")[11], images[11])
    assert path.read_bytes() == content


def test_a_changed_picture_another_size_and_another_list_lead_to_other_files(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    cached(images, tmp_path / "cache", "x")
    Image.new("RGB", (30, 20), "red").save(tmp_path / "0.jpg")
    assert cached(images, tmp_path / "cache", "x")[0][0, 0].tolist() == [254, 0, 0]
    cached(ImageFiles(images.folder, images.files, 12), tmp_path / "cache", "x")
    cached(ImageFiles(images.folder, images.files[::-1], 16), tmp_path / "cache", "x")
    assert len(built(tmp_path)) == 4


def write_plain(folder: Path, red: int) -> ImageFiles:
    """Files of one size and one time, whatever their colour."""
    folder.mkdir(exist_ok=True)
    for i in range(2):
        Image.new("RGB", (8, 6), (red + i, 0, 0)).save(folder / f"{i}.bmp")
        os.utime(folder / f"{i}.bmp", ns=(0, 0))
    return ImageFiles(folder, ("0.bmp", "1.bmp"), None)


def replace_folder(folder: Path) -> None:
    folder.rename(folder.with_name("former"))
    folder.with_name("other").rename(folder)


def turn_link(folder: Path) -> None:
    folder.rename(folder.with_name("former"))
    folder.symlink_to(folder.with_name("other"))


CHANGES = {
    "other content in the files": lambda folder: write_plain(folder, 101),
    "another folder at the place": replace_folder,
    "a link in its place": turn_link,
    "other files moved over them": lambda folder: [
        (folder.with_name("other") / f"{i}.bmp").replace(folder / f"{i}.bmp") for i in range(2)
    ],
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_other_pictures_at_the_same_place_never_give_the_old_pixels(change: str, tmp_path: Path) -> None:
    images = write_plain(tmp_path / "photos", 1)
    write_plain(tmp_path / "other", 101)
    assert cached(images, tmp_path / "cache", "x")[1][0, 0].tolist() == [2, 0, 0]
    CHANGES[change](images.folder)
    assert images.folder.joinpath("0.bmp").stat().st_mtime_ns == 0
    assert cached(images, tmp_path / "cache", "x")[1][0, 0].tolist() == [102, 0, 0]


def test_another_root_has_a_cache_of_its_own_and_a_link_to_it_has_the_same(tmp_path: Path) -> None:
    images, others = write_plain(tmp_path / "photos", 1), write_plain(tmp_path / "other", 101)
    cached(images, tmp_path / "cache", "x")
    assert cached(others, tmp_path / "cache", "x")[0][0, 0].tolist() == [101, 0, 0]
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    by_link = ImageFiles(tmp_path / "link", images.files, None)
    assert cached(by_link, tmp_path / "cache", "x")[0][0, 0].tolist() == [1, 0, 0]
    assert len(built(tmp_path)) == 2


def test_pictures_that_change_while_they_are_read_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_plain(tmp_path / "photos", 1)
    decoded = cache_module._decoded
    monkeypatch.setattr(
        cache_module, "_decoded", lambda _: (write_plain(images.folder, 7), *decoded(images))[1:]
    )
    with pytest.raises(OSError, match=r"images changed while they were read; start again"):
        cached(images, tmp_path / "cache", "x")
    assert not built(tmp_path)


def test_a_finished_cache_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path)
    cached(images, tmp_path / "cache", "x")
    monkeypatch.setattr(cache_module, "locked", lambda _: pytest.fail("a lock was asked for"))
    np.testing.assert_array_equal(cached(images, tmp_path / "cache", "x")[2], images[2])


def test_a_broken_picture_and_a_place_that_cannot_be_written_are_named_with_a_way_out(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"could not be built: .*dataset\.cache_folder=DIR.*dataset\.cache=false"
    ):
        cached(images, tmp_path / "file", "x")
    (tmp_path / "3.jpg").write_bytes(b"")
    with pytest.raises(OSError, match=r"could not be built: .*3\.jpg cannot be read as an image.*mend"):
        cached(images, tmp_path / "cache", "x")
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(OSError, match=r"could not be built: .*No such file.*3\.jpg"):
        cached(images, tmp_path / "cache", "x")


def test_a_cache_travels_to_a_worker_without_its_pixels(tmp_path: Path) -> None:
    kept = cached(write_images(tmp_path), tmp_path / "cache", "x")
    assert kept[0].size
    assert len(pickle.dumps(kept)) < 500
    assert isinstance(pickle.loads(pickle.dumps(kept)), CachedImages)
