"""A broken image is found before the training, once, and what comes out black is said."""

import logging
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.config import TrainConfig
from dml.data import checking, folder, shards
from dml.data.checking import check_images
from dml.data.image_files import ImageFiles
from dml.train import train
from tests.data.many_forms import photographs, write_tar


def write(place: Path, count: int = 12) -> ImageFiles:
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i}.jpg")
    return ImageFiles(place, tuple(f"{i}.jpg" for i in range(count)), 16)


def write_deep(
    place: Path, highest: int, lowest: int = 0, *, suffix: str = "png", count: int = 3
) -> ImageFiles:
    for i in range(count):
        values = np.linspace(lowest, highest, 600, dtype=np.uint16).reshape(20, 30)
        Image.fromarray(values).save(place / f"{i}.{suffix}")
    return ImageFiles(place, tuple(f"{i}.{suffix}" for i in range(count)), 16)


def looked(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "decoding" in message]


@pytest.mark.parametrize("check", [True, "auto"])
def test_broken_images_are_counted_and_named_with_their_causes(check: bool | str, tmp_path: Path) -> None:
    images = write(tmp_path)
    (tmp_path / "3.jpg").write_bytes((tmp_path / "3.jpg").read_bytes()[:300])
    (tmp_path / "7.jpg").write_bytes(b"")
    with pytest.raises(
        OSError, match=r"2 of 12 images cannot be used: .*3\.jpg cannot.*; .*7\.jpg cannot"
    ) as error:
        check_images(images, tmp_path / "cache", "x", check=check)
    assert not list(tmp_path.glob("cache/*")) and "replace or remove it" in str(error.value)
    check_images(images, tmp_path / "cache", "x", check=False)


def test_an_image_that_vanished_or_would_grow_too_large_is_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ImageFiles(tmp_path, write(tmp_path).files, 2000)
    (tmp_path / "3.jpg").unlink()
    monkeypatch.setenv("DML_MAX_PIXELS", "5000")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back afterwards
    with pytest.raises(
        OSError, match=r"12 of 12 images cannot be used: .*0\.jpg: with its short side at 2000"
    ):
        check_images(images, tmp_path / "cache", "x", check=True)
    monkeypatch.delenv("DML_MAX_PIXELS")
    with pytest.raises(
        OSError, match=r"1 of 12 images cannot be used: .*3\.jpg cannot be read.*No such file"
    ):
        check_images(images, tmp_path / "cache", "x", check=True)


def test_sound_images_are_looked_at_once_until_one_of_them_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dml")
    images = write(tmp_path)
    for _ in range(2):
        check_images(images, tmp_path / "cache", "x", check=True)
    assert len(looked(caplog)) == 1
    (tmp_path / "5.jpg").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"1 of 12 images"):
        check_images(images, tmp_path / "cache", "x", check=True)


@pytest.mark.parametrize("content", ["", "{}", "[1]", "\xff"])
def test_a_damaged_memory_is_none(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dml")
    images = write(tmp_path)
    check_images(images, tmp_path / "cache", "x", check=True)
    (memory,) = (tmp_path / "cache").iterdir()
    memory.write_bytes(content.encode("latin-1"))
    check_images(images, tmp_path / "cache", "x", check=True)
    assert len(looked(caplog)) == 2 and memory.read_text() == "[]"


def test_a_place_that_cannot_be_written_costs_the_memory_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dml")
    (tmp_path / "file").touch()
    check_images(write(tmp_path), tmp_path / "file", "x", check=True)
    assert "cannot be remembered" in caplog.messages[-1]


def test_of_a_large_set_images_at_equal_distances_are_looked_at_unless_all_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dml")
    monkeypatch.setattr(checking, "AT_ONCE", 4)
    images = write(tmp_path)
    (tmp_path / "1.jpg").write_bytes(b"")
    check_images(images, tmp_path / "cache", "x", check="auto")
    assert "decoding 4 of 12 images" in caplog.text
    with pytest.raises(OSError, match=r"1 of 12 images cannot be used: .*1\.jpg"):
        check_images(images, tmp_path / "cache", "x", check=True)
    (tmp_path / "9.jpg").write_bytes(b"")
    with pytest.raises(OSError, match=r"1 of 4 images cannot be used: .*9\.jpg"):
        check_images(images, tmp_path / "cache", "x", check="auto")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("lowest", "highest"), [(0, 1023), (0, 4095), (32_768, 36_863)])
def test_images_of_16_bits_that_use_a_small_part_of_them_are_named_at_every_start(
    lowest: int, highest: int, suffix: str, tmp_path: Path
) -> None:
    images = write_deep(tmp_path, highest, lowest, suffix=suffix)
    for _ in range(2):
        with pytest.warns(UserWarning, match=rf"x: 3 images of 16 bits use values.*0\.{suffix}.*scale them"):
            check_images(images, tmp_path / "cache", "x", check=True)


def test_colours_of_16_bits_are_seen_as_such(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + np.arange(90, dtype=">u2").tobytes() for _ in range(20))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">LLBBBBB", 30, 20, 16, 2, 0, 0, 0))
    (tmp_path / "0.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    with pytest.warns(UserWarning, match=r"1 images of 16 bits use values"):
        check_images(ImageFiles(tmp_path, ("0.png",), None), tmp_path / "cache", "x", check=True)


def test_dark_images_of_8_bits_and_a_set_that_uses_its_range_are_not_named(tmp_path: Path) -> None:
    Image.new("L", (9, 9), 3).save(tmp_path / "dark.png")
    write_deep(tmp_path, 4095)
    write_deep(tmp_path, 65_535, suffix="tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = ("dark.png", "0.png", "0.tif")
        check_images(ImageFiles(tmp_path, files, 16), tmp_path / "cache", "x", check=True)


def test_drawn_out_images_are_named(tmp_path: Path) -> None:
    Image.new("L", (1, 101)).save(tmp_path / "0.png")
    with pytest.warns(
        UserWarning, match=r"1 images are more than 100 times as long as wide.*0\.png.*the middle"
    ):
        check_images(ImageFiles(tmp_path, ("0.png",), 16), tmp_path / "cache", "x", check=True)


def test_images_in_shards_are_looked_at_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dml")
    files = photographs()
    settings = {"short_side": 6, "cache": False, "cache_folder": str(tmp_path / "cache"), "check": True}
    write_tar(tmp_path / "sound.tar", files)
    for _ in range(2):
        shards(str(tmp_path / "sound.tar"), **settings)
    assert len(looked(caplog)) == 1
    first = next(iter(files))
    write_tar(tmp_path / "broken.tar", {**files, first: files[first][:40]})
    with pytest.raises(
        OSError, match=rf"1 of \d+ images cannot be used: .*broken\.tar: {first} cannot be read"
    ):
        shards(str(tmp_path / "broken.tar"), **settings)


def test_an_option_that_is_none_of_the_three_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.check=maybe; accepted: true, false, auto"):
        folder(str(tmp_path), short_side=None, cache=False, cache_folder="", check="maybe")


def test_a_broken_image_of_the_test_classes_ends_a_run_before_it_begins(
    compose_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    for c in range(40):
        (tmp_path / "photos" / f"class {c}").mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng(2 * c + i).integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / f"class {c}" / f"{i}.jpg")
    data = folder(str(tmp_path / "photos"), short_side=None, cache=False, cache_folder="")
    broken = tmp_path / "photos" / data.test.files[-1]
    broken.write_bytes(broken.read_bytes()[:200])
    words = [
        "debug=smoke",
        "dataset=folder",
        f"dataset.root='{tmp_path / 'photos'}'",
        f"paths.data='{tmp_path}'",
    ]
    with pytest.raises(OSError, match=r"1 of 80 images cannot be used: .*cannot be read"):
        train(compose_config(*words), tmp_path / "run")
    assert not (tmp_path / "run").exists()
