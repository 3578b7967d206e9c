"""From the archives of a published data set to a folder that was looked through once and starts at once."""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

from dml.data.annotations import Annotations, find_folder, refuse_outside
from dml.data.cars import cars
from dml.data.cub import cub
from dml.data.dataset import Loading, train_test
from dml.data.decoding import decode_file
from dml.data.grocery import grocery
from dml.data.inshop import inshop
from dml.data.near_duplicates import near_duplicates
from dml.data.published_sets import Counts, PublishedSet, write_index
from dml.data.sop import sop
from dml.errors import FileError, InputError, MissingFileError

__all__ = ["SOURCES", "Archive", "Source", "check_md5", "look_through", "prepare", "unpack"]

Report = Callable[[str], None]
Member = tuple[str, int, IO[bytes]]  # name, size, content
ROOM, RATIO = 2**30, 10  # an archive may unpack to 1 GiB and ten times its size
BLOCK = 4096  # bytes that a small file takes all the same


class Archive(NamedTuple):
    """A published file and its checksum, if one is known."""

    name: str
    md5: str | None = None


class Source(NamedTuple):
    """A data set, the files it is published as, and how to get them."""

    data: PublishedSet
    archives: tuple[Archive, ...]
    fetch: str


SOURCES = {
    "cub": Source(
        cub,
        (Archive("CUB_200_2011.tgz", "97eceeb196236b17998738112f37df78"),),
        "the page of CUB-200-2011 at Caltech offers CUB_200_2011.tgz",
    ),
    "cars": Source(
        cars,
        (
            Archive("car_ims.tgz", "d5c8f0aa497503f355e17dc7886c3f14"),
            Archive("cars_annos.mat", "b407c6086d669747186bd1d764ff9dbc"),
        ),
        "its page at Stanford has been gone since 2023, so take a copy: either car_ims.tgz and cars_annos.mat, or "
        "cars_train/, cars_test/, devkit/ and cars_test_annos_withlabels.mat; give each file in turn by archive=FILE",
    ),
    "sop": Source(
        sop,
        (Archive("Stanford_Online_Products.zip", "7f73d41a2f44250d4779881525aea32e"),),
        "the page of the data set at Stanford offers Stanford_Online_Products.zip",
    ),
    "inshop": Source(
        inshop,
        (Archive("img.zip"), Archive("list_eval_partition.txt")),
        "sign the request on the page of DeepFashion at CUHK, then take Img/img.zip and Eval/list_eval_partition.txt "
        "of the In-shop Clothes Retrieval Benchmark; give each file in turn by archive=FILE",
    ),
    "grocery": Source(
        grocery,
        (Archive("GroceryStoreDataset-master.zip"),),
        "`git clone https://github.com/marcusklasson/GroceryStoreDataset` into that folder has all of it, or take the "
        "archive that its page on GitHub offers under Code, Download ZIP",
    ),
}


def prepare(source: Source, data: Path, expected: Counts, *, archive: Path | None, report: Report) -> Path:
    """Unpack an archive, if one is given, then check the whole data set and write its index.

    Whatever was interrupted can be repeated: files that are there whole are left alone.

    Args:
        data: the folder of all data sets; an archive is unpacked into a folder of it with the name of the data set.
        report: is given sentences on what happens.

    Returns:
        The index.

    Raises:
        MissingFileError: files are missing; the message says which and where to get them.
        InputError: an archive or the annotations are not as published.
        FileError: images cannot be read; the message names the first.
    """
    name = source.data.name
    if archive is not None:
        report(check_md5(archive, source.archives))
        report(f"{unpack(archive, data / name):,} files new in {data / name}")
    try:
        folder, anchor = find_folder(data, name, source.data.anchors)
        annotations = source.data.verify(folder, anchor, expected)
    except FileNotFoundError as error:
        raise MissingFileError(f"{error}\n{_instructions(source, data)}") from error
    report(f"{len(annotations.rows):,} images in {folder}, as published; opening each of them")
    for sentence in look_through(annotations):
        report(sentence)
    test = train_test(name, annotations, Loading(short_side=None, cache=False, cache_folder="")).test
    if test.is_query is not None:
        report(
            f"{len(near_duplicates(test)):,} of {test.is_query.sum():,} queries have a near-duplicate in the gallery"
        )
    return write_index(annotations)


def _instructions(source: Source, data: Path) -> str:
    name = source.data.name
    return (
        f"To get it: {source.fetch}. Then `dml prepare {name} --archive FILE` unpacks a file "
        f"into {data / name}; files that are unpacked already may lie there too, as they are named in docs/data.md"
    )


def check_md5(path: Path, published: tuple[Archive, ...]) -> str:
    """What the checksum of a file says; an archive under another name than the published one may be a copy.

    Raises:
        MissingFileError: there is no such file.
        InputError: it has the name of a published archive and another checksum.
    """
    if not path.is_file():
        raise MissingFileError(f"archive={path} is no file: give the archive that you fetched")
    by_name = {archive.name: archive.md5 for archive in published}
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    md5 = digest.hexdigest()
    if md5 in by_name.values():
        return f"{path}: md5 {md5}, as published"
    if by_name.get(path.name):
        raise InputError(
            f"{path} has md5 {md5}, published is {by_name[path.name]}: it was not fetched whole, or is another "
            "version; fetch it again, or, if you know it to be a good copy, give it another name"
        )
    return f"{path}: md5 {md5}; none is published for {path.name}, so the counts decide"


def unpack(archive: Path, target: Path) -> int:
    """Unpack a tar or zip archive, or copy a single file; the number of files that were not there before.

    Every file appears under its name when it is whole, so what an interrupted run left is completed.

    Raises:
        InputError: a member lies outside of the target, or is a link or a device, of which nothing is written, or
            the members are far larger than the archive.
        FileError: the archive is damaged or locked by a password.
    """
    try:
        for is_one, members in ((tarfile.is_tarfile, _tar_members), (zipfile.is_zipfile, _zip_members)):
            if is_one(archive):
                found = _bounded(members(archive), archive, target)
                return sum(_place(_inside(target, name), size, content) for name, size, content in found)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise FileError(
            f"{archive} cannot be unpacked: {error}; fetch it again, or unpack it by hand into {target}"
        ) from error
    if archive.suffix in (".mat", ".txt"):
        place = target / ("Eval" if archive.name == "list_eval_partition.txt" else "") / archive.name
        with archive.open("rb") as content:
            return _place(place, archive.stat().st_size, content)
    raise FileError(
        f"{archive} is neither a tar nor a zip archive: it was perhaps not fetched whole; fetch it again"
    )


def _inside(target: Path, name: str) -> Path:
    path = target / name
    if not path.resolve().is_relative_to(target.resolve()):
        raise InputError(f"{path} leads out of {target} by a link that lies there: remove the link")
    return path


def _bounded(members: Iterator[Member], archive: Path, target: Path) -> Iterator[Member]:
    """The members, as long as they are not more than an archive of images, which hardly shrink, can hold."""
    room, total = ROOM + RATIO * archive.stat().st_size, 0
    for name, size, content in members:
        total += max(size, BLOCK)
        if total > room:
            raise InputError(
                f"{archive} has {archive.stat().st_size:,} bytes and unpacks to more than {room:,}, as no archive of "
                f"images does, so {name!r} and what follows was not unpacked: fetch it from another place, or, if "
                f"you trust it, unpack it by hand into {target}"
            )
        yield name, size, content


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as tar:
        for member in tar:
            refuse_outside(member.name, str(archive))
            if not member.isfile() and not member.isdir():
                raise InputError(_no_links(archive, member.name))
            content = tar.extractfile(member)
            if content is not None:
                yield member.name, member.size, content


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            refuse_outside(member.filename, str(archive))
            if stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(_no_links(archive, member.filename))
            if not member.is_dir():
                with file.open(member) as content:
                    yield member.filename, member.file_size, content


def _no_links(archive: Path, name: str) -> str:
    return (
        f"{archive} holds {name!r}, a link or a device, which no archive of this data set does: it was tampered with; "
        "fetch it from another place"
    )


def _place(path: Path, size: int, content: IO[bytes]) -> int:
    """Write a file unless it is there with that size; 1 if it was written."""
    if path.is_file() and path.stat().st_size == size:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        shutil.copyfileobj(content, file)
    partial.replace(path)
    return 1


def look_through(annotations: Annotations) -> list[str]:
    """Decode every image once: sentences on what is converted when it is read, and on files with equal content.

    Raises:
        FileError: images cannot be read; the message names the first, each with its cause.
    """
    files = [row.file for row in annotations.rows]
    with ThreadPoolExecutor() as pool:
        looks = list(pool.map(lambda file: _look(annotations.folder / file), files))
    if broken := [look for look in looks if isinstance(look, OSError)]:
        raise FileError(
            f"{len(broken):,} of {len(files):,} images cannot be read: {'; '.join(map(str, broken[:3]))}. "
            "Delete them and unpack the archive again, which leaves the others"
        )
    kinds: Counter[str] = Counter()
    equal = defaultdict(list)
    for file, look in zip(files, looks, strict=True):
        assert not isinstance(look, OSError)
        kinds.update(look.kinds)
        equal[look.digest].append(file)
    sentences = [
        f"{count:,} images are {kind}: converted when they are read" for kind, count in kinds.items()
    ]
    if repeated := [names for names in equal.values() if len(names) > 1]:
        pair = f"{repeated[0][0]!r} and {repeated[0][1]!r}"
        sentences.append(
            f"{len(repeated):,} images are there under several names, such as {pair}: kept, as published"
        )
    return sentences


class _Look(NamedTuple):
    kinds: list[str]
    digest: bytes


def _look(path: Path) -> _Look | OSError:
    try:
        _, mode, orientation, _ = decode_file(path)
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError as error:
        return error
    names = {"L": "grey", "1": "black and white", "CMYK": "CMYK", "P": "of a palette", "I;16": "of 16 bits"}
    kinds = [names.get(mode, mode)] if mode != "RGB" else []
    return _Look(kinds + ["turned by EXIF"] * (orientation > 1), digest)
