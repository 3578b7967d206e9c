import io
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from torchvision.transforms import functional as F

from dml.data import decode, decoding
from dml.data.decoding import largest_picture, resample, resize_short_side
from dml.data.image_files import ImageFiles
from dml.data.transforms import EvaluationTransform


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Soft colours, as in photographs."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_jpeg_is_decoded_as_pillow_does(
    mode: str, options: dict[str, object], tmp_path: Path
) -> None:
    if mode != "RGB":
        options.pop("keep_rgb", None)
    picture().convert(mode).save(tmp_path / "a.jpg", quality=90, **options)
    with Image.open(tmp_path / "a.jpg") as opened:
        np.testing.assert_array_equal(decode(tmp_path / "a.jpg"), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_photograph_is_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    picture().save(path, exif=exif)
    with Image.open(path) as opened:
        upright = opened.transpose(turn[orientation]) if orientation > 1 else opened.copy()
    np.testing.assert_array_equal(decode(path), np.asarray(upright))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_three_channels_of_bytes(mode: str, tmp_path: Path) -> None:
    image = picture()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    pixels = decode(path)
    assert pixels.shape == (40, 60, 3) and pixels.dtype == np.uint8
    expected = picture().convert("L") if mode == "I;16" else image
    np.testing.assert_array_equal(pixels, np.asarray(expected.convert("RGB")))


def test_transparency_is_laid_on_white() -> None:
    assert decode(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).min() == 255


@pytest.mark.parametrize("values", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70000, np.int32)])
def test_pixels_without_a_place_in_bytes_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(OSError, match=r"deep.tif cannot be read as an image: its pixels are .* 0 to 65535"):
        decode(tmp_path / "deep.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 0.9])
def test_a_file_that_was_cut_off_is_named(share: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match=rf"cut\.{suffix} cannot be read as an image: "):
        decode(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.jpg cannot be read as an image: .*No such file"):
        decode(tmp_path / "missing.jpg")


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60))
def test_the_short_side_gets_its_length_and_the_other_that_of_torchvision(
    width: int, height: int, short: int
) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    resized = resize_short_side(image, short)
    assert resized.shape[:2] == F.resize(torch.zeros(3, height, width), [short]).shape[1:]
    assert resize_short_side(resized, short) is resized and resize_short_side(image, None) is image


@pytest.mark.parametrize("size", [(20, 30), (27, 41), (90, 120)])
def test_resampling_differs_from_pillow_by_rounding_alone(size: tuple[int, int]) -> None:
    ours = resample(np.asarray(picture()), size).permute(1, 2, 0).numpy().astype(int)
    theirs = np.asarray(picture().resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def tall(height: int, width: int, suffix: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, suffix, **options)
    return buffer.getvalue()


def with_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("JPEG", {}), ("JPEG", {"exif": with_exif()}), ("PNG", {}), ("TIFF", {}), ("GIF", {})],
)
def test_a_picture_of_too_many_pixels_is_refused_on_every_route(
    suffix: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DML_MAX_PIXELS", "600")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back afterwards
    (tmp_path / "bomb").write_bytes(tall(31, 20, suffix, **options))
    with pytest.raises(OSError, match=r"bomb.*pixels.*raise the limit by the variable DML_MAX_PIXELS"):
        decode(tmp_path / "bomb")


@pytest.mark.parametrize("side", [9_460, 60_000])  # of the first Pillow warns, the second it refuses
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_few_bytes_that_announce_very_many_pixels_are_refused_before_they_are_unpacked(
    side: int, tmp_path: Path
) -> None:
    header = b"IHDR" + struct.pack(">II", side, side) + bytes([8, 0, 0, 0, 0])
    png = tall(9, 9, "PNG")
    (tmp_path / "bomb.png").write_bytes(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:])
    with pytest.raises(OSError, match=r"bomb.png .*pixels.*DML_MAX_PIXELS"):
        decode(tmp_path / "bomb.png")


def test_the_limit_is_raised_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as if the picture were large
    monkeypatch.setattr(decoding, "MOST_PIXELS", 100)
    (tmp_path / "a.png").write_bytes(tall(30, 20, "PNG"))
    with pytest.raises(OSError, match="DML_MAX_PIXELS"):
        decode(tmp_path / "a.png")
    monkeypatch.setenv("DML_MAX_PIXELS", "600")
    assert decode(tmp_path / "a.png").shape == (30, 20, 3)


@pytest.mark.parametrize("value", ["many", "0", "-1", "1e9"])
def test_a_limit_that_is_no_number_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DML_MAX_PIXELS", value)
    with pytest.raises(ValueError, match=rf"DML_MAX_PIXELS={value} is no number of pixels"):
        largest_picture()


def test_a_picture_in_memory_is_held_to_the_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DML_MAX_PIXELS", "100")
    with pytest.raises(ValueError, match="it has 11 × 10 pixels, and more than 100 are refused"):
        decode(Image.new("L", (11, 10)))


@pytest.mark.parametrize(("height", "width"), [(8_000, 1), (1, 100_000), (90_000, 256)])
def test_of_a_drawn_out_picture_the_middle_is_resized(height: int, width: int, tmp_path: Path) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    rows, columns = (slice(max(0, length // 2 - 1), length // 2 + 1) for length in (height, width))
    pixels[rows, columns] = 255
    Image.fromarray(pixels).save(tmp_path / "thin.png")
    image = ImageFiles(tmp_path, ("thin.png",), 256)[0]
    assert sorted(image.shape) == [3, 256, 25_600]
    assert image[image.shape[0] // 2, image.shape[1] // 2].min() > 200
    square = EvaluationTransform(size=224, resize=256, whole_pixels=True)(image)
    assert square.float().mean() > 0 and square.equal(square.flip(1)) and square.equal(square.flip(2))
    assert decode(tmp_path / "thin.png").shape == (height, width, 3)


def test_a_picture_that_would_grow_beyond_the_limit_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DML_MAX_PIXELS", "100000")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # put back afterwards
    (tmp_path / "thin.png").write_bytes(tall(90, 2, "PNG"))
    with pytest.raises(
        OSError, match=r"thin.png: .*short side at 256 pixels, an image of 2 × 90 would have.*DML_MAX_PIXELS"
    ):
        ImageFiles(tmp_path, ("thin.png",), 256)[0]


@pytest.mark.parametrize("kind", ["text", "profile"])
def test_what_is_packed_beside_the_pixels_is_no_bomb_either(kind: str, tmp_path: Path) -> None:
    zeros = bytes(80 * 2**20)
    info = PngImagePlugin.PngInfo()
    if kind == "text":
        info.add_text("comment", zeros, zip=True)
    packed = tall(9, 9, "PNG", pnginfo=info, icc_profile=zeros if kind == "profile" else None)
    (tmp_path / "bomb.png").write_bytes(packed)
    tracemalloc.start()
    with suppress(OSError):  # it is refused, or read without
        decode(tmp_path / "bomb.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(packed) < 2**18 and peak < 20 * 2**20


def test_a_format_that_another_program_would_run_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.format == "EPS"  # Pillow would call Ghostscript
    with pytest.raises(OSError, match=r"a.jpg cannot be read as an image: cannot identify"):
        decode(tmp_path / "a.jpg")
