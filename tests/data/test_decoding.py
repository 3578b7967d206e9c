from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as F

from dml.data import decode
from dml.data.decoding import resample, resize_short_side


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
    with pytest.raises(OSError, match=r"deep.tif cannot be read as a picture: its pixels are .* 0 to 65535"):
        decode(tmp_path / "deep.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 0.9])
def test_a_file_that_was_cut_off_is_named(share: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match=rf"cut\.{suffix} cannot be read as a picture: "):
        decode(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.jpg cannot be read as a picture: .*No such file"):
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
