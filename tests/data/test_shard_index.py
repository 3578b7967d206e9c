"""The index of a shard: written once, never trusted after a change, and no condition for reading."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from dml.data import shard_index
from dml.data.shard_index import Shard, look_through
from dml.errors import FileError
from tests.data.many_forms import write_tar

FILES = {"a/1.jpg": b"12", "a/2.jpg": b"3"}


def look(path: Path, **options: str | None) -> Shard:
    return look_through(path, path.parent / "index", **{"image": None, "label": None, **options})


def test_a_shard_is_looked_through_once_and_then_its_index_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    before = look(path)
    monkeypatch.setattr(shard_index, "list_members", lambda _: pytest.fail("looked through again"))
    assert look(path) == before


@pytest.mark.parametrize("change", ["content", "time", "inode", "option"])
def test_whatever_changes_leads_to_another_index(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    look(path)
    time = path.stat().st_mtime_ns
    if change == "content":
        path.write_bytes(path.read_bytes().replace(b"a/2.jpg", b"a/3.jpg"))
    if change == "inode":
        (tmp_path / "copy").write_bytes(path.read_bytes())
        (tmp_path / "copy").replace(path)
    os.utime(path, ns=(time, time + (change == "time")))
    monkeypatch.setattr(shard_index, "list_members", lambda _: [])
    assert look(path, image="png" if change == "option" else None).found.images == []


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"key": 1}', "null"])
def test_a_damaged_index_is_written_anew(content: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    before = look(path)
    (index,) = (tmp_path / "index").iterdir()
    sound = index.read_text()
    for text in (content, sound.replace('"images": [[', '"images": [[[], ')):
        index.write_text(text)
        assert look(path) == before and index.read_text() == sound


def test_where_no_index_can_be_kept_the_shard_is_read_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    (tmp_path / "index").write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert len(look(path).found.images) == 2
    assert "cannot be kept, so the shard is looked through at each start" in caplog.text


def test_a_shard_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shard_index, "sample", refuse)
    with pytest.raises(FileError, match=r"x\.tar cannot be read: .*Permission denied; make it readable"):
        look(path)
