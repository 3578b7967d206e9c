"""The shipped emoji and their reader."""

import csv
import io
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dml.data.emoji import ARCHIVE, COLUMNS, TABLE, EmojiImages, emoji_dataset, read_emoji
from dml.data.protocols import hashed_half

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "emoji"
HEADER = ",".join(COLUMNS)


@pytest.fixture(scope="module")
def timed_reading() -> tuple[EmojiImages, float]:
    start = time.process_time()
    return read_emoji(SHIPPED), time.process_time() - start


@pytest.fixture(scope="module")
def shipped(timed_reading: tuple[EmojiImages, float]) -> EmojiImages:
    return timed_reading[0]


def write_folder(folder: Path, table: str, colours: dict[str, tuple[int, int, int]]) -> Path:
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        for name, colour in colours.items():
            buffer = io.BytesIO()
            Image.new("RGB", (64, 64), colour).save(buffer, "WEBP", lossless=True)
            archive.writestr(name, buffer.getvalue())
    (folder / TABLE).write_text(table)
    return folder


def test_rows_follow_the_table_and_labels_follow_the_sorted_names(tmp_path: Path) -> None:
    table = f"{HEADER}\nb.webp,pear,noto,Food & Drink,test\na.webp,apple,noto,Food & Drink,train\n"
    read = read_emoji(write_folder(tmp_path, table, {"a.webp": (255, 0, 0), "b.webp": (0, 255, 1)}))
    assert read.class_names == ("apple", "pear")
    assert read.labels.tolist() == [1, 0] and read.labels.dtype == np.int64
    assert read.images.shape == (2, 64, 64, 3) and read.images.dtype == np.uint8
    assert read.images[:, 5, 7].tolist() == [[0, 255, 1], [255, 0, 0]]
    assert read.files == ("b.webp", "a.webp") and read.splits == ("test", "train")


def test_a_table_that_was_cut_is_refused(tmp_path: Path) -> None:
    table = f"{HEADER}\nb.webp,pear,noto,Food & Drink,test\n"
    with pytest.raises(ValueError, match=r"1 images that emoji.csv does not name, the first is a.webp"):
        read_emoji(write_folder(tmp_path, table, {"a.webp": (255, 0, 0), "b.webp": (0, 255, 1)}))


@pytest.mark.parametrize("missing", [ARCHIVE, TABLE])
def test_a_missing_file_is_named_with_the_way_to_get_it(tmp_path: Path, missing: str) -> None:
    write_folder(tmp_path, f"{HEADER}\n", {})
    (tmp_path / missing).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{missing} is missing.*git checkout data/emoji.*build_emoji"
    ):
        read_emoji(tmp_path)


def test_outside_a_checkout_the_set_that_comes_with_dml_is_read_unless_a_place_was_named(
    tmp_path: Path, shipped: EmojiImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_emoji("data/emoji").files == shipped.files
    with pytest.raises(FileNotFoundError, match=r"images/emoji/emoji.zip is missing"):
        read_emoji("images/emoji")


def test_another_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"columns \['file', 'label'\]; expected \['file', 'class'"):
        read_emoji(write_folder(tmp_path, "file,label\n", {}))


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    row = "a.webp,apple,noto,Food & Drink,train\n"
    with pytest.raises(ValueError, match=r"names a\.webp twice"):
        read_emoji(write_folder(tmp_path, f"{HEADER}\n{row}{row}", {"a.webp": (0, 0, 0)}))


def test_a_file_that_the_archive_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no a\.webp"):
        read_emoji(write_folder(tmp_path, f"{HEADER}\na.webp,apple,noto,Food & Drink,train\n", {}))


@pytest.mark.parametrize("kind", ["many pixels", "many bytes"])
def test_an_image_that_is_far_larger_than_the_others_is_refused(kind: str, tmp_path: Path) -> None:
    write_folder(tmp_path, f"{HEADER}\na.webp,apple,noto,Food & Drink,train\n", {})
    with zipfile.ZipFile(tmp_path / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 9_999)).save(buffer, "WEBP", lossless=True)
        archive.writestr("a.webp", buffer.getvalue() if kind == "many pixels" else bytes(2**20))
    with pytest.raises(
        ValueError, match=r"a.webp(, which unpacks to more than 65,536| of \(64, 9999\) pixels)"
    ):
        read_emoji(tmp_path)


def test_the_shipped_table_and_archive_name_the_same_images(shipped: EmojiImages) -> None:
    with zipfile.ZipFile(SHIPPED / ARCHIVE) as archive:
        assert tuple(archive.namelist()) == shipped.files
    assert len(shipped.images) == 8668 and len(shipped.class_names) == 1159


def test_every_shipped_class_is_drawn_once_by_each_of_at_least_five_styles(shipped: EmojiImages) -> None:
    pairs = Counter(zip(shipped.labels.tolist(), shipped.styles, strict=True))
    assert set(pairs.values()) == {1}
    assert min(Counter(label for label, _ in pairs).values()) >= 5


def test_the_shipped_split_is_the_hash_and_halves_the_classes(shipped: EmojiImages) -> None:
    assert list(shipped.splits) == [hashed_half(shipped.class_names[label]) for label in shipped.labels]
    train = sum(hashed_half(name) == "train" for name in shipped.class_names)
    assert 0.45 < train / len(shipped.class_names) < 0.55


def test_no_flags_and_no_skin_tones_are_shipped(shipped: EmojiImages) -> None:
    names = set(shipped.class_names) - {"flag-in-hole"}  # golf
    assert not [name for name in names if "skin-tone" in name or name.startswith("flag-")]
    assert set(shipped.groups) == {
        *("Activities", "Animals & Nature", "Food & Drink", "Objects", "People & Body"),
        *("Smileys & Emotion", "Symbols", "Travel & Places"),
    }


def test_every_class_has_one_group(shipped: EmojiImages) -> None:
    assert len(set(zip(shipped.labels.tolist(), shipped.groups, strict=True))) == len(shipped.class_names)


def test_no_shipped_image_is_blank_or_occurs_twice(shipped: EmojiImages) -> None:
    flat = shipped.images.reshape(len(shipped.images), -1)
    assert (flat.min(1) < flat.max(1)).all()
    assert len({row.tobytes() for row in flat}) == len(flat)


def test_the_notice_names_every_style_and_its_licence(shipped: EmojiImages) -> None:
    notice = (SHIPPED / "NOTICE").read_text(encoding="utf-8")
    for style in set(shipped.styles):
        assert f"\n{style}: " in notice and f"@iconify-json/{style} " in notice
    assert (
        notice.count("SPDX: ") == 8 and notice.count("Share alike") == notice.count("SPDX: CC-BY-SA-4.0") == 2
    )


def test_the_shipped_archive_is_small_and_read_within_seconds(
    timed_reading: tuple[EmojiImages, float],
) -> None:
    assert (SHIPPED / ARCHIVE).stat().st_size < 20e6
    assert timed_reading[1] < 10  # 1.5 s of processor time where it was written


def test_the_table_has_unix_line_endings() -> None:
    content = (SHIPPED / TABLE).read_bytes()
    assert b"\r" not in content and next(csv.reader([content.decode().split("\n")[0]])) == list(COLUMNS)


def test_the_data_set_has_the_halves_of_the_table_with_no_class_in_both(shipped: EmojiImages) -> None:
    data = emoji_dataset(SHIPPED)
    assert not set(data.train.class_names) & set(data.test.class_names)
    assert [len(half) for half in data] == [shipped.splits.count(half) for half in ("train", "test")]
    np.testing.assert_array_equal(data.test.image(7), shipped.images[shipped.files.index(data.test.files[7])])
