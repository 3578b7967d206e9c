"""embed.py reads a file as the model does, to the bit."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.data import EvaluationTransform, decode_source
from dml.export.embed import Unreadable, decode, resample, square
from dml.index.fingerprint import draw_golden_images
from tests.data.many_forms import encoded, photographs

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 20, 3), dtype=np.uint8)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def odd_files() -> dict[str, bytes]:
    image = Image.fromarray(PIXELS)
    damaged = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 30
    files = {f"orientation {n}": encoded(image, "JPEG", exif=turned(n)) for n in range(1, 9)}
    files |= {f"tiff {n}": encoded(image, "TIFF", exif=turned(n)) for n in (1, 6)}
    files |= {f"webp {n}": encoded(image, "WEBP", exif=turned(n)) for n in (1, 8)}
    return files | {
        "cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "grey": encoded(image.convert("L"), "JPEG"),
        "progressive": encoded(image, "JPEG", progressive=True, subsampling=2),
        "xmp": encoded(image, "JPEG", xmp=XMP),
        "damaged metadata": encoded(image, "JPEG", exif=damaged),
        "png with exif": encoded(image, "PNG", exif=turned(3)),
        "palette with a clear colour": encoded(image.convert("P"), "PNG", transparency=7),
        "one bit": encoded(image.convert("1"), "PNG"),
        "grey and alpha": encoded(image.convert("RGBA").convert("LA"), "PNG"),
        **{f"golden {n}": content for n, content in enumerate(draw_golden_images())},
        **photographs(),
    }


@pytest.mark.parametrize(("name", "content"), odd_files().items(), ids=odd_files().keys())
def test_a_file_has_the_same_pixels(name: str, content: bytes, tmp_path: Path) -> None:
    expected = decode_source(content, 0)
    (tmp_path / "file").write_bytes(content)
    assert np.array_equal(decode(content), expected) and np.array_equal(decode(tmp_path / "file"), expected)


@pytest.mark.parametrize("whole_pixels", [False, True])
def test_an_image_becomes_the_same_square(whole_pixels: bool) -> None:
    for _ in range(60):
        height, width, size, more = RNG.integers(1, (200, 200, 120, 60))
        settings = {"size": int(size), "resize": int(size + more - 1), "whole_pixels": whole_pixels}
        image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert np.array_equal(square(image, settings), EvaluationTransform(**settings)(image).numpy())  # type: ignore[arg-type]


@pytest.mark.parametrize("whole_pixels", [False, True])
@pytest.mark.parametrize("shape", [(3, 900), (900, 3), (1, 1), (500, 500)])
def test_so_does_a_drawn_out_one(shape: tuple[int, int], whole_pixels: bool) -> None:
    settings = {"size": 12, "resize": 14, "whole_pixels": whole_pixels}
    image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.array_equal(square(image, settings), EvaluationTransform(**settings)(image).numpy())  # type: ignore[arg-type]


def test_a_side_that_has_its_length_is_left_alone() -> None:
    assert resample(PIXELS, 0, 30) is PIXELS


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.jpg").write_bytes(encoded(Image.fromarray(PIXELS), "JPEG")[:200])
    for file in (tmp_path / "broken.jpg", tmp_path / "gone.jpg"):
        with pytest.raises(Unreadable, match=rf"{file.name} cannot be read as an image"):
            decode(file)
    with pytest.raises(Unreadable, match="the third cannot be read"):
        decode(b"text", "the third")
    negative = io.BytesIO()
    Image.fromarray(np.full((4, 4), -1.0, np.float32)).save(negative, "TIFF")
    with pytest.raises(Unreadable, match="float32 from -1"):
        decode(negative.getvalue())
    monkeypatch.setattr("dml.export.embed.MOST_PIXELS", 599)
    with pytest.raises(Unreadable, match="20 × 30 pixels, and more than 599 are refused"):
        decode(encoded(Image.fromarray(PIXELS), "PNG"))
