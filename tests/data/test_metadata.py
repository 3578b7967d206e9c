"""Only the orientation counts, it counts wherever it stands, and nothing beside it costs an image."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dml.data import decode
from dml.data.decoding import decode_bytes

LAID = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8))
UPRIGHT = np.asarray(LAID.transpose(Image.Transpose.ROTATE_270))
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
TEXT, SHORT, LONG, RATIONAL, SIGNED, DOUBLE = 2, 3, 4, 5, 10, 12
EXTRA = struct.pack("<ll", -1, 0) + struct.pack("<d", 1.5)  # where the values of long tags lie
BROKEN = {  # tag, type, count, value or its place
    "resolution of -1/0": (282, SIGNED, 1, struct.pack("<L", 38)),
    "resolution as text": (282, TEXT, 4, b"abc\0"),
    "unit as text": (296, TEXT, 4, b"abc\0"),
    "artist as double": (315, DOUBLE, 1, struct.pack("<L", 46)),
    "maker beyond the end": (271, TEXT, 40, struct.pack("<L", 5000)),
    "maker of 2 GB": (271, TEXT, 2**31, struct.pack("<L", 38)),
    "directory as text": (34665, TEXT, 4, b"abc\0"),
    "directory beyond the end": (34665, LONG, 1, struct.pack("<L", 50_000)),
    "a directory that is itself": (34853, LONG, 1, struct.pack("<L", 8)),
    "a type that there is not": (270, 99, 1, b"abcd"),
    "no values": (270, TEXT, 0, b"abcd"),
}


def exif(
    *others: tuple[int, int, int, bytes], orientation: bytes = b"\x06\0\0\0", kind: int = SHORT
) -> bytes:
    tags = sorted([(0x0112, kind, 1, orientation), *others])
    directory = b"".join(struct.pack("<HHL", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4) + EXTRA


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    LAID.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(*segments: bytes) -> bytes:
    plain = encoded("JPEG", quality=100, subsampling=0)
    return plain[:2] + b"".join(segments) + plain[2:]


def png(*chunks: bytes) -> bytes:
    plain = encoded("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def with_exif(kind: str, content: bytes) -> bytes:
    if kind == "JPEG":
        return jpeg(segment(0xE1, content))
    if kind == "PNG":
        return png(chunk(b"eXIf", content[6:]))
    return encoded("WEBP", lossless=True, exif=content)


def assert_upright(pixels: np.ndarray) -> None:
    assert pixels.shape == UPRIGHT.shape
    assert np.abs(pixels.astype(int) - UPRIGHT).mean() < 12  # JPEG of noise


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_broken_tag_beside_the_orientation_is_passed_over(kind: str, broken: str) -> None:
    assert_upright(decode_bytes(with_exif(kind, exif(BROKEN[broken])), "a").pixels)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_tag_of_an_image_in_memory_is_passed_over_too(broken: str) -> None:
    image = LAID.copy()
    image.info["exif"] = exif(BROKEN[broken])
    assert_upright(decode(image))


@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_no_exif_makes_an_image_unreadable(kind: str, content: bytes) -> None:
    assert decode_bytes(with_exif(kind, b"Exif\0\0" + content), "a").pixels.size == UPRIGHT.size


@pytest.mark.parametrize("kind", [1, LONG])
def test_an_orientation_of_another_type_of_integer_counts(kind: int) -> None:
    assert_upright(decode_bytes(with_exif("PNG", exif(kind=kind)), "a").pixels)


@pytest.mark.parametrize(
    ("orientation", "kind"),
    [(b"\0\0\0\0", SHORT), (b"\x09\0\0\0", SHORT), (b"six\0", TEXT), (b"\x06\0\0\0", DOUBLE)],
)
def test_an_orientation_that_is_none_leaves_the_image_as_it_lies(orientation: bytes, kind: int) -> None:
    content = with_exif("PNG", exif(orientation=orientation, kind=kind))
    np.testing.assert_array_equal(decode_bytes(content, "a").pixels, np.asarray(LAID))


@pytest.mark.parametrize(
    "before",
    [
        [segment(0xE2, bytes(60_000))] * 4,
        [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(9))],
        [b"\xff" * 7],  # filling
        [segment(0xFE, b"\xff\xda Exif\0\0")],  # a comment
    ],
)
def test_the_orientation_of_a_jpeg_counts_wherever_it_stands(before: list[bytes]) -> None:
    assert_upright(decode_bytes(jpeg(*before, segment(0xE1, exif())), "a").pixels)


def test_exif_of_a_jpeg_in_two_segments_is_read_as_one() -> None:
    long = exif((271, TEXT, 70_000, struct.pack("<L", 54))) + bytes(70_000)
    assert_upright(
        decode_bytes(jpeg(segment(0xE1, long[:25]), segment(0xE1, b"Exif\0\0" + long[25:60_000])), "a").pixels
    )


@pytest.mark.parametrize("form", [XMP, b"<tiff:Orientation>6</tiff:Orientation>", b"tiff:Orientation = '6'"])
def test_an_orientation_in_xmp_counts_in_every_format(form: bytes) -> None:
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + form
    assert_upright(decode_bytes(jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + form)), "a").pixels)
    assert_upright(decode_bytes(png(chunk(b"iTXt", text)), "a").pixels)
    assert_upright(decode_bytes(encoded("WEBP", lossless=True, xmp=form), "a").pixels)


def test_exif_counts_before_xmp_and_one_turn_is_made() -> None:
    upright_by_exif = exif(orientation=b"\x01\0\0\0")
    both = [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), segment(0xE1, upright_by_exif)]
    assert decode_bytes(jpeg(*both), "a").pixels.shape == (8, 12, 3)
    assert_upright(decode_bytes(jpeg(both[0], segment(0xE1, exif())), "a").pixels)


def test_an_orientation_that_the_caller_set_in_memory_counts(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(chunk(b"eXIf", exif()[6:])))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        image.getexif()[0x0112] = 1
        np.testing.assert_array_equal(decode(image), np.asarray(LAID))


BROKEN_CHUNKS = {
    b"pHYs": b"\0\0", b"gAMA": b"", b"cHRM": b"\0", b"sRGB": b"", b"iCCP": b"", b"zTXt": b"a\0\7junk", b"acTL": b"\0"
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN_CHUNKS)
def test_a_broken_chunk_of_a_png_costs_neither_the_image_nor_its_orientation(kind: bytes) -> None:
    content = png(chunk(kind, BROKEN_CHUNKS[kind]), chunk(b"eXIf", exif()[6:]))
    np.testing.assert_array_equal(decode_bytes(content, "a").pixels, UPRIGHT)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize(
    "entry", [(RATIONAL, 1, 2**20), (TEXT, 2**31, 8), (TEXT, 4, 0x616263), (DOUBLE, 1, 8)]
)
def test_a_broken_tag_of_a_tiff_costs_neither_the_image_nor_its_orientation(
    entry: tuple[int, int, int], compression: str | None
) -> None:
    info = {271: "maker of it", 0x0112: 6, 282: 72.0, 315: "artist of it"}
    tiff = bytearray(encoded("TIFF", compression=compression, tiffinfo=info))
    (place,) = struct.unpack_from("<L", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, place)
    for start in range(place + 2, place + 2 + 12 * count, 12):
        if struct.unpack_from("<H", tiff, start)[0] in (271, 282, 315):
            struct.pack_into("<HLL", tiff, start + 2, *entry)
    np.testing.assert_array_equal(decode_bytes(bytes(tiff), "a").pixels, UPRIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int) -> None:
    as_png = decode_bytes(
        png(chunk(b"eXIf", exif(orientation=bytes([orientation, 0, 0, 0]))[6:])), "a"
    ).pixels
    np.testing.assert_array_equal(
        decode_bytes(encoded("TIFF", tiffinfo={0x0112: orientation}), "a").pixels, as_png
    )
