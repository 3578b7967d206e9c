"""Tar and zip files as they come: cut off, compressed, locked, joined, with links. None is shorter in silence."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest

from dml.data import shard_members
from dml.data.shard_members import list_members, read_member
from dml.errors import FileError
from tests.data.many_forms import write_tar, write_zip

FILES = {f"a/{i}.bin": bytes([i]) * 700 for i in range(5)}


def state(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("pread", [True, False])
def test_members_are_read_in_place(
    write, pread: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pread:
        monkeypatch.delattr("os.pread")  # as on Windows
    path = write(tmp_path / "x", {**FILES, "a/" + "long" * 60 + "/é.bin": b"", "b": b"1"})
    found = {member.name: read_member(str(path), state(path), member) for member in list_members(path)}
    assert found == {**FILES, "a/" + "long" * 60 + "/é.bin": b"", "b": b"1"}


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_of_tar_is_read(tar_format: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tar_format) as tar:
        tar.add(Path(__file__), "a/" + "n" * 90 + "/x.py")
    (member,) = list_members(path)
    assert read_member(str(path), state(path), member) == Path(__file__).read_bytes()


@pytest.mark.parametrize("length", [0, 100, 512, 1000, 1536, 3000])
@pytest.mark.parametrize("write", [write_tar, partial(write_zip, method=zipfile.ZIP_STORED)])
def test_a_shard_that_was_cut_anywhere_is_named(write, length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", FILES)
    assert path.stat().st_size > length
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(OSError, match=r"x\.tar is cut off, damaged, still being written.*again"):
        list_members(path)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    content = bytearray(path.read_bytes())
    content[3 * 1536 + 100] ^= 255
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"after 4,608 bytes there is neither a file nor the mark of the end"):
        list_members(path)


def test_tar_files_joined_to_one_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match=r"x\.tar goes on behind its end, as several tar files joined"):
        list_members(path)


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_a_compressed_tar_is_refused_with_what_to_do(module, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    path.write_bytes(module.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r"compressed as a whole .*decompress it once to a plain \.tar"):
        list_members(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("a/x.jpg")
        info.type, info.linkname = kind, "/etc/hostname"
        tar.addfile(info)
    with pytest.raises(ValueError, match=r"holds 'a/x\.jpg', a link, a device"):
        list_members(tmp_path / "x.tar")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a/x.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(ValueError, match=r"holds 'a/x\.jpg', a link"):
        list_members(tmp_path / "x.zip")


def test_other_compressions_in_a_zip_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", FILES, zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match=r"'a/0\.bin', compressed by method 14; accepted: stored \(0\)"):
        list_members(path)


def test_a_locked_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a": b"1"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds 'a', which is locked by a password"):
        list_members(path)


def test_numbers_and_sizes_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    monkeypatch.setattr(shard_members, "LARGEST", 699)
    with pytest.raises(ValueError, match=r"'a/0\.bin' of 700 bytes; accepted are 699"):
        list_members(path)
    monkeypatch.undo()
    monkeypatch.setattr(shard_members, "MOST_MEMBERS", 4)
    with pytest.raises(ValueError, match=r"more than 4 files: write several shards"):
        list_members(path)


def test_a_member_that_unpacks_to_more_than_it_says_or_is_damaged_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a.bmp": bytes(10_000)})
    (member,) = list_members(path)
    for wrong in ({"size": 100}, {"offset": member.offset + 3}, {"crc": 1}, {"stored": 5}):
        with pytest.raises(OSError, match=r"x\.zip: 'a\.bmp' is damaged"):
            read_member(str(path), state(path), member._replace(**wrong))


def test_a_list_that_leads_elsewhere_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a": b"1"})
    content = path.read_bytes()
    path.write_bytes(b"PK\7\7" + content[4:])
    with pytest.raises(OSError, match=r"no file begins at byte 0"):
        list_members(path)


def test_a_shard_that_changed_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    member, before = list_members(path)[0], state(path)
    write_tar(path, dict(reversed(FILES.items())) | {"z": b"1"})
    with pytest.raises(OSError, match=r"x\.tar has changed since its images were listed: start again"):
        read_member(str(path), (before[0] + 1, before[1]), member)


def test_a_shard_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", FILES)
    member, before = list_members(path)[0], state(path)
    path.unlink()
    with pytest.raises(FileError, match=r"x\.tar: 'a/0\.bin' cannot be read any more: .*No such file"):
        read_member(str(path), before, member)


def test_many_shards_are_read_with_few_open_at_a_time(tmp_path: Path) -> None:
    paths = [write_tar(tmp_path / f"{i}.tar", {"a": str(i).encode()}) for i in range(150)]
    for i, path in enumerate(paths):
        assert read_member(str(path), state(path), list_members(path)[0]) == str(i).encode()
    assert shard_members._open.cache_info().currsize <= 128
