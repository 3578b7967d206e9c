"""The members of tar and zip files, by their places: read where they lie, nothing is unpacked."""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

from dml.errors import FileError, InputError

__all__ = ["Member", "list_members", "read_member"]

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
    b"\x04\x22M\x18": "lz4",
}
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
MOST_MEMBERS, LARGEST = 10_000_000, 2**30  # of a shard; bytes of a member
PLAIN = -1  # how tar stores, without a checksum: the one that is kept here is of both ends
END = 4096  # bytes
BLOCK, PADDING = 512, 2**20  # of tar; how far its end is looked through
LOCAL = struct.Struct("<4s22xHH")  # header of a member of a zip file: mark, lengths of name and extra field
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    struct.error,
)


class Member(NamedTuple):
    """A file inside of a shard.

    name:   its path there.
    offset: of its first byte in the shard.
    stored: bytes that it takes there.
    size:   bytes that it has.
    method: STORED, DEFLATED or PLAIN.
    crc:    of its content; of a PLAIN one, of its first and last bytes.
    """

    name: str
    offset: int
    stored: int
    size: int
    method: int
    crc: int


def list_members(path: Path) -> list[Member]:
    """All files in a tar or zip file, in its order.

    Raises:
        InputError: it is compressed as a whole, locked, or holds links, other compressions or members of absurd sizes.
        FileError: it cannot be read, or is cut off, damaged or no such file; the message names it.
    """
    with path.open("rb") as file:
        start = file.read(8)
        for mark, name in COMPRESSED.items():
            if start.startswith(mark):
                raise InputError(
                    f"{path} is compressed as a whole ({name}), so no image in it can be reached without all before "
                    "it: decompress it once to a plain .tar, images hardly grow by that"
                )
        try:
            found = list(_zip_members(path, file) if start.startswith(b"PK") else _tar_members(path, file))
        except _RefusedError as error:
            raise InputError(f"{path} {error}") from None
        except DAMAGED as error:
            raise FileError(
                f"{path} is cut off, damaged, still being written, or no tar or zip file: {error}; fetch or write it "
                "again, or move it away"
            ) from error
    return found


class _RefusedError(Exception):
    """What a sound shard has that is not accepted; the sentence lacks its subject, the shard."""


def _tar_members(path: Path, file: BinaryIO) -> Iterator[Member]:
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for count, info in enumerate(tar):
            _check(info.name, info.size, count)
            if info.isdir():
                continue
            if not info.isfile() or info.issparse():
                raise _RefusedError(
                    f"holds {info.name!r}, a link, a device or a file with holes: write the files themselves, as "
                    "`tar --dereference --hard-dereference` does"
                )
            crc = zlib.crc32(_ends(file, info.offset_data, info.size))
            yield Member(info.name, info.offset_data, info.size, info.size, PLAIN, crc)
        _check_end(file, tar.offset)


def _ends(file: BinaryIO, offset: int, size: int) -> bytes:
    length, parts = min(size, END), []
    for place in (offset, offset + size - length):
        file.seek(place)
        parts.append(file.read(length))
    return b"".join(parts)


def _check_end(file: BinaryIO, end: int) -> None:
    """A tar file ends with a block of zeros; tarfile takes a damaged header, or none, for the end as well."""
    file.seek(end)
    rest = file.read(PADDING)
    if len(rest) < BLOCK or rest[:BLOCK].strip(b"\0"):
        raise tarfile.ReadError(f"after {end:,} bytes there is neither a file nor the mark of the end")
    if rest.strip(b"\0"):
        raise _RefusedError(
            "goes on behind its end, as several tar files joined to one do: keep them apart, or join them by "
            "`tar --concatenate`"
        )


def _zip_members(path: Path, file: BinaryIO) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for count, info in enumerate(archive.infolist()):
            _check(info.filename, info.file_size, count)
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise _RefusedError(
                    f"holds {info.filename!r}, which is locked by a password: write it without one"
                )
            if info.compress_type not in (STORED, DEFLATED):
                raise _RefusedError(
                    f"holds {info.filename!r}, compressed by method {info.compress_type}; accepted: stored (0) and "
                    "deflated (8): write it anew, as `zip -0` does"
                )
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise _RefusedError(f"holds {info.filename!r}, a link: write the files themselves")
            file.seek(info.header_offset)
            mark, name, extra = LOCAL.unpack(file.read(LOCAL.size))
            if mark != b"PK\3\4":
                raise zipfile.BadZipFile(
                    f"no file begins at byte {info.header_offset:,}, where the list says so"
                )
            offset = info.header_offset + LOCAL.size + name + extra
            yield Member(
                info.filename, offset, info.compress_size, info.file_size, info.compress_type, info.CRC
            )


def _check(name: str, size: int, count: int) -> None:
    if count >= MOST_MEMBERS:
        raise _RefusedError(f"holds more than {MOST_MEMBERS:,} files: write several shards")
    if size > LARGEST:
        raise _RefusedError(f"holds {name!r} of {size:,} bytes; accepted are {LARGEST:,}: leave it out")


def read_member(path: str, state: tuple[int, int], member: Member) -> bytes:
    """The content of a member, from any thread and process.

    Args:
        state: size and time (ns) that the shard had when its members were listed.

    Raises:
        FileError: the shard is not what it was, or the member is damaged; the message names them.
    """
    try:
        content = _open(path, state, os.getpid()).read(member.offset, member.stored)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {member.name!r} cannot be read any more: {error}") from error
    if member.method == DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)
        except zlib.error as error:
            raise FileError(_damaged(path, member)) from error
    checked = content[:END] + content[-END:] if member.method == PLAIN else content
    if len(content) != member.size or member.crc != zlib.crc32(checked):
        raise FileError(_damaged(path, member))
    return content


def _damaged(path: str, member: Member) -> str:
    return f"{path}: {member.name!r} is damaged: fetch or write the shard again"


class _OpenShard:
    """A shard that is open for reading at any place; it is closed when the last thread has let go of it."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._lock = Lock()

    def state(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes from a place, or fewer at the end, without moving a position that threads would share."""
        parts = []
        while size and (part := self._part(offset, size)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def _part(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:  # Windows
            self._file.seek(offset)
            return self._file.read(size)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


@lru_cache(maxsize=128)  # shards that a process keeps open
def _open(path: str, state: tuple[int, int], process: int) -> _OpenShard:
    shard = _OpenShard(path)
    if shard.state() != state:
        raise FileError(f"{path} has changed since its images were listed: start again")
    return shard
