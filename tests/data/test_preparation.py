"""From an archive to a data set that starts at once, on small look-alikes of the published archives."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from dml.data import TrainTest
from dml.data import preparation as preparation_module
from dml.data.preparation import SOURCES, Archive, check_md5, prepare, unpack
from dml.data.published_sets import INDEX

ROOT = Path(__file__).parents[2]
COUNTS = {"train": {"classes": 2, "images": 5}, "test": {"classes": 2, "images": 6}}
Write = Callable[[str, Path], Path]


def pack(folder: Path, archive: Path) -> Path:
    """All that lies below a folder, as tar or zip by the suffix."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as target:
            for path in files:
                target.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as target:
            for path in files:
                target.add(path, path.relative_to(folder))
    return archive


def prepare_small(name: str, data: Path, archive: Path | None = None) -> list[str]:
    """What is reported while a small look-alike is prepared."""
    said: list[str] = []
    prepare(SOURCES[name], data, COUNTS, archive=archive, report=said.append)
    return said


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
@pytest.mark.parametrize("top", [True, False])
def test_an_archive_with_or_without_its_top_folder_becomes_a_data_set(
    top: bool, suffix: str, write_small: Write, read_small: Callable[..., TrainTest], tmp_path: Path
) -> None:
    folder = write_small("cub", tmp_path / "source")
    archive = pack(folder.parent if top else folder, tmp_path / f"birds.{suffix}")
    said = prepare_small("cub", tmp_path / "data", archive)
    assert "none is published for birds" in said[0] and "15 files new" in said[1] and "11 images" in said[2]
    assert list((tmp_path / "data").rglob(INDEX))
    assert len(read_small("cub", tmp_path / "data").test) == 6


def test_cars_come_as_two_files_and_the_message_says_what_is_missing_in_between(
    write_small: Write, tmp_path: Path
) -> None:
    folder = write_small("cars", tmp_path / "source")
    annotations = (
        (folder / "cars_annos.mat").rename(tmp_path / "my_annos.mat").rename(tmp_path / "cars_annos.mat")
    )
    images = pack(folder, tmp_path / "copy_of_car_ims.tgz")
    with pytest.raises(
        FileNotFoundError, match=r"(?s)finds no cars_annos.mat or .*To get it: .*archive=FILE"
    ):
        prepare_small("cars", tmp_path / "data", images)
    unpack(annotations, tmp_path / "data" / "cars")
    assert "11 images" in prepare_small("cars", tmp_path / "data")[0]


def test_the_list_of_in_shop_is_put_where_it_belongs(write_small: Write, tmp_path: Path) -> None:
    folder = write_small("inshop_flat", tmp_path / "source")
    unpack(folder / "Eval" / "list_eval_partition.txt", tmp_path / "data" / "inshop")
    images = pack(folder / "img", tmp_path / "source" / "img.zip")
    unpack(images, tmp_path / "data" / "inshop" / "img")
    assert "11 images" in prepare_small("inshop", tmp_path / "data")[0]


def test_an_interrupted_run_is_completed_and_keeps_what_is_there(
    write_small: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(write_small("sop", tmp_path / "source").parent, tmp_path / "a.zip")
    place, placed = preparation_module._place, []

    def killed(path: Path, size: int, content: io.BytesIO) -> int:
        if len(placed) == 4:
            path.with_name(path.name + ".partial").write_bytes(content.read(7))
            raise KeyboardInterrupt
        placed.append(path)
        return place(path, size, content)

    with monkeypatch.context() as patch:
        patch.setattr(preparation_module, "_place", killed)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, tmp_path / "data" / "sop")
    said = prepare_small("sop", tmp_path / "data", archive)
    assert "9 files new" in said[1] and not list((tmp_path / "data").rglob("*.partial"))
    assert "0 files new" in prepare_small("sop", tmp_path / "data", archive)[1]


def write_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/hostname"
        archive.addfile(member, io.BytesIO())
    return path


def write_zip(path: Path, name: str, mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.create_system, member.external_attr = 3, mode << 16
        archive.writestr(member, "content")
    return path


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize(
    "name", ["../escaped.jpg", "/escaped.jpg", "a/../../escaped.jpg", "..\\escaped.jpg", "C:/x"]
)
def test_a_member_outside_of_the_target_is_refused(
    write: Callable[[Path, str], Path], name: str, tmp_path: Path
) -> None:
    archive = write(tmp_path / "archive", name)
    with pytest.raises(ValueError, match=r"names '.*', which lies outside of the data set"):
        unpack(archive, tmp_path / "target")
    assert sorted(tmp_path.rglob("*")) == [archive]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_is_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'name', a link or a device"):
        unpack(write_tar(tmp_path / "a.tar", "name", kind), tmp_path / "target")
    with pytest.raises(ValueError, match=r"'name', a link or a device"):
        unpack(write_zip(tmp_path / "a.zip", "name", 0o120777), tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
def test_an_archive_that_unpacks_to_far_more_than_pictures_would_is_stopped(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation_module, "ROOM", 2**20)
    (tmp_path / "source").mkdir()
    for i in range(8):
        (tmp_path / "source" / f"{i}.jpg").write_bytes(bytes(2**18))
    archive = tmp_path / f"bomb.{suffix}"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) if suffix == "zip" else nullcontext() as target:
        for path in sorted((tmp_path / "source").iterdir()) if target else ():
            target.write(path, path.name)
    if suffix == "tgz":
        pack(tmp_path / "source", archive)
    with pytest.raises(ValueError, match=r"unpacks to more than 1,\d+,\d+, as no archive of images does"):
        unpack(archive, tmp_path / "target")
    assert sum(path.stat().st_size for path in (tmp_path / "target").iterdir()) <= 2**20


def test_an_archive_of_very_many_empty_files_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation_module, "ROOM", 2**15)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        for i in range(50):
            archive.writestr(f"{i}", b"")
    with pytest.raises(ValueError, match="as no archive of images does"):
        unpack(tmp_path / "bomb.zip", tmp_path / "target")


def test_a_link_and_a_file_behind_it_leave_nothing_outside(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("door")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("door/escaped.jpg"), io.BytesIO())
    with pytest.raises(ValueError, match=r"'door', a link or a device"):
        unpack(tmp_path / "a.tar", tmp_path / "target")
    assert not (tmp_path / "escaped.jpg").exists()


def test_a_link_that_lay_in_the_target_before_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "door").symlink_to(tmp_path)
    archive = write_zip(tmp_path / "a.zip", "door/escaped.jpg")
    with pytest.raises(ValueError, match=r"door/escaped.jpg.* leads out of"):
        unpack(archive, tmp_path / "target")
    assert not (tmp_path / "escaped.jpg").exists()


@pytest.mark.parametrize("suffix", ["tgz", "zip"])
def test_an_archive_that_was_cut_says_to_fetch_it_again(
    suffix: str, write_small: Write, tmp_path: Path
) -> None:
    archive = pack(write_small("cub", tmp_path / "source"), tmp_path / f"a.{suffix}")
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(
        OSError, match=r"a\.\w+ (cannot be unpacked: |is neither a tar nor a zip).*fetch it again"
    ):
        unpack(archive, tmp_path / "target")


def test_a_locked_archive_says_to_unpack_it_by_hand(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", "name")
    content = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(header) + flags] |= 1  # the bit that says: encrypted
    archive.write_bytes(content)
    with pytest.raises(OSError, match=r"password.*unpack it by hand into .*target"):
        unpack(archive, tmp_path / "target")


def test_the_md5_is_compared_where_one_is_published(tmp_path: Path) -> None:
    path = tmp_path / "birds.tgz"
    path.write_bytes(b"birds")
    md5 = hashlib.md5(b"birds").hexdigest()
    assert "as published" in check_md5(path, (Archive("other name.tgz", md5),))
    assert "the counts decide" in check_md5(path, (Archive("birds.tgz"),))
    with pytest.raises(ValueError, match=rf"has md5 {md5}, published is 00: .*fetch it again"):
        check_md5(path, (Archive("birds.tgz", "00"),))
    with pytest.raises(FileNotFoundError, match=r"archive=.*nothing is no file"):
        check_md5(tmp_path / "nothing", ())


def test_pictures_that_cannot_be_read_are_named_and_no_index_is_written(
    write_small: Write, tmp_path: Path
) -> None:
    folder = write_small("cars", tmp_path)
    for name, keep in (("000002", 0.5), ("000005", 0)):
        path = folder / "car_ims" / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(
        OSError, match=r"2 of 11 images cannot be read: .*000002.*; .*000005.*Delete them and unpack"
    ):
        prepare_small("cars", tmp_path)
    assert not list(tmp_path.rglob(INDEX))


def test_what_is_converted_and_what_is_there_twice_is_said(write_small: Write, tmp_path: Path) -> None:
    folder = write_small("cars", tmp_path) / "car_ims"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (9, 9)).save(folder / "000001.jpg")
    Image.new("CMYK", (9, 9)).save(folder / "000002.jpg")
    Image.new("RGB", (9, 9)).save(folder / "000003.jpg", exif=exif)
    Image.new("P", (9, 9)).save(folder / "000004.jpg", "PNG")
    (folder / "000006.jpg").write_bytes((folder / "000005.jpg").read_bytes())
    said = "\n".join(prepare_small("cars", tmp_path)[1:])
    for kind in ("grey", "CMYK", "turned by EXIF", "of a palette"):
        assert f"1 images are {kind}: converted" in said
    assert "1 images are there under several names, such as 'car_ims/000005.jpg' and" in said


def test_the_command_prepares_birds_of_the_published_numbers(
    write_full: dict[str, Callable[[Path], Path]], tmp_path: Path
) -> None:
    write_full["cub"](tmp_path / "cub")
    command = [sys.executable, "-m", "dml", "prepare", "cub"]
    environment = {**os.environ, "DML_DATA": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "11,788 images" in done.stdout and f"{INDEX} written: dml train dataset=cub" in done.stdout
