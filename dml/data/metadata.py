"""What a file says of its image beside the pixels: which side is up, and no more.

Cameras and programs write it wrongly in many ways, and none of them may cost a sound image.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ORIENTATION", "jpeg_orientation", "noted_orientation", "upright", "without_metadata"]

EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
IN_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])""")
ORIENTATION = 0x0112
INTEGERS = {1: "B", 3: "H", 4: "L"}  # types of TIFF that a number from 1 to 8 may have
APP1, ADOBE, START_OF_SCAN, END = 0xE1, 0xEE, 0xDA, 0xD9
APPLICATION = range(0xE0, 0xF0)
ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
PNG = b"\x89PNG\r\n\x1a\n"
OF_IMAGE = (b"tRNS", b"eXIf")  # chunks of PNG that are not critical and count all the same
TIFF = (b"II*\0", b"MM\0*")
OF_PIXELS = {  # tags of TIFF without which the pixels cannot be read, or would be read wrongly
    *(254, 256, 257, 258, 259, 262, 266, 273, ORIENTATION, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521, 530, 531, 532),
}
NO_TYPE = 0


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The pixels (H, W, 3), turned and mirrored as EXIF numbers it: 1 is upright, 3 on its head, 6 lies on its left."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def jpeg_orientation(content: bytes) -> int:
    """The orientation that the content of a JPEG file notes, in EXIF or else in XMP; 1 if it does not."""
    parts = [part.content for part in _segments(content) if part.marker == APP1]
    exif = b"".join(part[len(EXIF) :] for part in parts if part.startswith(EXIF))
    return _in_exif(exif) or _in_xmp(b"".join(part for part in parts if part.startswith(XMP))) or 1


def noted_orientation(info: dict[Any, Any]) -> int:
    """The same of what Pillow found in a file of another format, loaded."""
    exif = info.get("exif") or _from_hex(info.get("Raw profile type exif"))
    return _in_exif(exif) or _in_xmp(info.get("XML:com.adobe.xmp") or info.get("xmp")) or 1


def without_metadata(content: bytes) -> bytes:
    """The file with its pixels alone, for a second try; as it is, if it is no JPEG, PNG or TIFF of the usual build."""
    try:
        if content.startswith(b"\xff\xd8"):
            return _bare_jpeg(content)
        if content.startswith(PNG):
            return _bare_png(content)
        if content.startswith(TIFF):
            return _bare_tiff(content)
    except struct.error:  # cut off
        pass
    return content


def _in_exif(exif: object) -> int:
    """The number under the tag in the first directory, whatever the other tags are; 0 if there is none."""
    if not isinstance(exif, bytes):
        return 0
    start = 0
    while exif.startswith(EXIF, start):
        start += len(EXIF)
    data = exif[start:]
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 0
    try:
        (place,) = struct.unpack_from(order + "L", data, 4)
        (count,) = struct.unpack_from(order + "H", data, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", data, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + INTEGERS[kind], data, entry + 8)
                return value if 1 <= value <= 8 else 0
    except (struct.error, KeyError):  # cut off, or no integer
        pass
    return 0


def _in_xmp(xmp: object) -> int:
    text = xmp.encode(errors="replace") if isinstance(xmp, str) else xmp
    found = IN_XMP.search(text) if isinstance(text, bytes) else None
    return int(found[1]) if found else 0


def _from_hex(profile: object) -> bytes:
    """EXIF as some programs put it into a text of PNG: three lines of heading, then digits."""
    try:
        return bytes.fromhex("".join(profile.split("\n")[3:])) if isinstance(profile, str) else b""
    except ValueError:
        return b""


class _Segment(NamedTuple):
    marker: int
    start: int
    end: int
    content: bytes


def _segments(content: bytes) -> Iterator[_Segment]:
    """The parts of a JPEG file that stand before its pixels, however far that is."""
    place = 2
    while (start := content.find(b"\xff", place)) >= 0 and start + 4 <= len(content):
        marker = content[start + 1]
        if marker in (START_OF_SCAN, END):
            return
        if marker in (0x00, 0xFF, *ALONE):
            place = start + (1 if marker == 0xFF else 2)
            continue
        (length,) = struct.unpack_from(">H", content, start + 2)
        place = start + 2 + max(length, 2)
        yield _Segment(marker, start, place, content[start + 4 : place])


def _bare_jpeg(content: bytes) -> bytes:
    kept, place = [], 0
    for part in _segments(content):
        if part.marker in APPLICATION and part.marker != ADOBE:  # that one says how colours are meant
            kept.append(content[place : part.start])
            place = part.end
    return b"".join([*kept, content[place:]])


def _bare_png(content: bytes) -> bytes:
    kept, place = [PNG], len(PNG)
    while place < len(content):
        length, kind = struct.unpack_from(">L4s", content, place)
        end = place + 12 + length
        if kind[:1].isupper() or kind in OF_IMAGE:
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _bare_tiff(content: bytes) -> bytes:
    """The first directory with a type under all other tags that no reader knows, so that they are passed over."""
    order = "<" if content.startswith(b"II") else ">"
    (place,) = struct.unpack_from(order + "L", content, 4)
    (count,) = struct.unpack_from(order + "H", content, place)
    changed = bytearray(content)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        if struct.unpack_from(order + "H", content, entry)[0] not in OF_PIXELS:
            struct.pack_into(order + "H", changed, entry + 2, NO_TYPE)
    return bytes(changed)
