"""Which members are images, and what says their class."""

from __future__ import annotations

from pathlib import Path

import pytest

from dml.data import shard_labels
from dml.data.shard_index import look_through
from dml.data.shard_labels import Labelled
from tests.data.many_forms import write_tar

SAMPLE = {"x/1.jpg": b"", "x/1.json": b'{"label": 7, "kind": "mug"}', "x/1.txt": b"a red mug\n"}


def look(files: dict[str, bytes], place: Path, **options: str | None) -> Labelled:
    path = write_tar(place / "x.tar", files)
    return look_through(path, place / "index", **{"image": None, "label": None, **options}).found


@pytest.mark.parametrize(
    ("label", "expected"),
    [("txt", "a red mug"), ("json", "7"), ("label", "7"), ("kind", "mug")],
)
def test_the_label_is_taken_from_where_it_is_asked_for(label: str, expected: str, tmp_path: Path) -> None:
    ((member, found),) = look(SAMPLE, tmp_path, label=label).images
    assert (member.name, found) == ("x/1.jpg", expected)


def test_of_cls_and_others_cls_is_the_class(tmp_path: Path) -> None:
    found = look({**SAMPLE, "x/1.cls": b"3"}, tmp_path)
    assert (found.source, found.images[0][1]) == ("cls", "3")
    assert found.left_out == {".json": 1, ".txt": 1}


def test_a_sample_ends_at_the_first_dot_and_of_several_images_one_suffix_is_chosen(tmp_path: Path) -> None:
    files = {"1.left.png": b"", "1.Right.png": b"", "1.cls": b"3"}
    with pytest.raises(
        ValueError, match=r"'1' has several images, left\.png, right\.png.*dataset\.image=SUFFIX"
    ):
        look(files, tmp_path)
    assert [member.name for member, _ in look(files, tmp_path, image=".right.PNG").images] == ["1.Right.png"]


@pytest.mark.parametrize(
    ("files", "label", "message"),
    [
        (
            SAMPLE,
            None,
            r"\.json and \.txt beside its images: say which holds the class by dataset\.label=txt",
        ),
        ({"1.jpg": b"", "1.cls": b"3", "2.jpg": b""}, None, r"'2\.jpg' has no \.cls beside it"),
        ({"1.jpg": b""}, "cls", r"'1\.jpg' has no \.cls beside it"),
        ({"1.jpg": b"", "1.cls": b" \n"}, None, r"'1\.cls' gives '' as the class; accepted: one line"),
        ({"1.jpg": b"", "1.txt": b"a\nb"}, None, r"gives 'a\\nb' as the class; accepted: one line"),
        ({"1.jpg": b"", "1.cls": b"\xff"}, None, r"'1\.cls' is no cls in UTF-8"),
        ({"1.jpg": b"", "1.json": b"{"}, None, r"'1\.json' is no json in UTF-8"),
        ({"1.jpg": b"", "1.json": b"[" * 100_000}, None, r"'1\.json' is no json in UTF-8"),
        (
            {"1.jpg": b"", "1.json": b'{"id": 1}'},
            None,
            r"no usual fields for the class; it has id: choose one",
        ),
        (
            {"1.jpg": b"", "1.json": b'{"label": 1, "class": 2}'},
            None,
            r"several or no usual fields.*class, label",
        ),
        (SAMPLE, "colour", r"no field colour; it has kind, label"),
        (
            {"1.jpg": b"", "1.json": b'{"label": null}'},
            None,
            r"gives None as the class; accepted: a text or a whole",
        ),
        ({"1.jpg": b"", "1.json": b"true"}, None, r"gives True as the class"),
        ({"1.jpg": b"", "1.txt": b"x" * (2**20 + 1)}, None, r"has 1,048,577 bytes, which is no label"),
        ({"a/../../1.jpg": b""}, None, r"names 'a/\.\./\.\./1\.jpg', which lies outside"),
        ({"/etc/1.jpg": b""}, None, r"names '/etc/1\.jpg', which lies outside"),
        ({"a/\udcff.jpg": b""}, None, r"cannot be read as UTF-8: write it with another name"),
        (
            {"a/1.jpg": b"", "a/2.hif": b""},
            None,
            r"1 of 2 images are in HEIC or AVIF, namely 'a/2\.hif'",
        ),
        ({"a/1.jpg": b"", "./a/1.jpg": b""}, None, r"holds 1 files twice, such as 'a/1\.jpg'"),
    ],
)
def test_what_is_refused(
    files: dict[str, bytes],
    label: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shard_labels, "readable_suffixes", lambda: {".jpg"})  # as without pillow-heif
    with pytest.raises(ValueError, match=r"x\.tar.*" + message):
        look(files, tmp_path, label=label)
