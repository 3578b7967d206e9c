"""Copies of images, byte for byte, are counted and named."""

import shutil
from pathlib import Path

import pytest

from dml.data import copies
from dml.data.copies import equal_files
from dml.errors import FileError
from tests.trial_sets import read_folder, read_table, write_noise


def test_a_copy_is_named_in_a_warning_with_the_classes_it_lies_in(tmp_path: Path) -> None:
    noise = write_noise(tmp_path / "photos")
    shutil.copy(noise / "class 1/0.png", noise / "class 1/0 (1).png")
    with pytest.warns(
        UserWarning, match=r"1 images of .* byte; 0 of 1 groups .* test, 0 in several classes, namely"
    ):
        read_folder(noise)
    shutil.copytree(noise / "class 1", noise / "class 2 - copy")
    with pytest.warns(
        UserWarning, match=r"5 images of .* in several classes, .*class 1/0 \(1\).png = class 1/0.png"
    ):
        read_folder(noise)


def test_copies_in_train_and_test_are_named_first(tmp_path: Path) -> None:
    noise = write_noise(tmp_path / "photos")
    shutil.copy(noise / "class 1/0.png", noise / "class 9/copy.png")
    shutil.copy(noise / "class 3/0.png", noise / "class 1/other.png")
    lines = [f"{path.relative_to(noise)},{path.parent.name}" for path in sorted(noise.rglob("*.png"))]
    halves = [f"{line},{'train' if line.endswith('9') else 'test'}" for line in lines]
    (noise / "items.csv").write_text("path,label,split\n" + "\n".join(halves))
    with pytest.warns(
        UserWarning, match=r"2 images .* 1 of 2 groups .* namely class 1/0.png = class 9/copy.png: "
    ):
        read_table(noise / "items.csv")


def test_only_files_of_one_size_with_equal_ends_are_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [b"a" * 9000, b"a" * 9001, b"b" + b"a" * 8999, b"a" * 9000, b"a" * 4500 + b"c" + b"a" * 4499]
    paths = [tmp_path / str(i) for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    read, whole = [], copies._content
    monkeypatch.setattr(copies, "_content", lambda path: read.append(path) or whole(path))
    assert equal_files(paths) == [[0, 3]]
    assert read == [paths[0], paths[3], paths[4]]
    assert equal_files([]) == []


def test_a_file_that_cannot_be_read_for_comparison_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    noise = write_noise(tmp_path / "photos")
    shutil.copy(noise / "class 1/0.png", noise / "class 1/copy.png")
    monkeypatch.setattr(copies, "_ends", fail)
    with pytest.raises(FileError, match=r"comparing the images of .*: Input/output error .*png"):
        read_folder(noise)
