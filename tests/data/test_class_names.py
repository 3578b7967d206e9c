"""Names of classes that look the same are one class or are refused, in a folder and in a table."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.data import Records, TrainTest, holdout
from dml.data.protocols import hashed_half
from tests.trial_sets import read_folder, read_table, recall, write_colours

MERGED = r"classes are spelled in two forms of Unicode, .*'café \d+'.*taken as one class"


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def write_table(root: Path, spell: Callable[[str, int], str]) -> Path:
    """The colours as a table, each label in a spelling of its own: of its class and the number of the image."""
    images = sorted(root.rglob("*.png"))
    lines = [f'{path},"{spell(path.parent.name, int(path.stem))}"' for path in images]
    (root / "items.csv").write_text("path,label\n" + "\n".join(lines), encoding="utf-8")
    return root / "items.csv"


def names(data: TrainTest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return data.train.class_names, data.test.class_names


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return write_colours(tmp_path / "photos")


def test_a_copy_by_macos_has_the_same_classes_in_the_same_halves(colours: Path) -> None:
    before = read_folder(colours)
    held_out = holdout(before, fraction=0.3).val.class_names
    for path in list(colours.iterdir()):
        path.rename(path.with_name(decomposed(path.name)))
    after = read_folder(colours)
    assert names(after) == names(before) and recall(after.test) == 1
    assert holdout(after, fraction=0.3).val.class_names == held_out


def test_a_hash_is_one_of_the_composed_name(colours: Path) -> None:
    for name in ("Güneş", "café 3", "が", "Å"):
        assert hashed_half(name) == hashed_half(decomposed(name))
    plain = read_folder(colours)
    other = [
        Records(part.images, part.rows, part.labels, tuple(map(decomposed, part.class_names)), part.files)
        for part in plain
    ]
    held_out = holdout(TrainTest(*other), fraction=0.3).val.class_names
    assert set(held_out) == set(map(decomposed, holdout(plain, fraction=0.3).val.class_names))


def test_folders_in_two_forms_of_unicode_are_merged_with_a_warning(colours: Path) -> None:
    before = names(read_folder(colours))
    for path in list(colours.iterdir()):
        other = path.with_name(decomposed(path.name))
        other.mkdir()
        (path / "0.png").rename(other / "0.png")
    with pytest.warns(UserWarning, match=r"24 " + MERGED):
        after = read_folder(colours)
    assert names(after) == before and len(after.train) + len(after.test) == 96 and recall(after.test) == 1


def test_labels_of_a_table_in_two_forms_are_merged_with_a_warning(colours: Path) -> None:
    with pytest.warns(UserWarning, match=r"24 " + MERGED):
        data = read_table(write_table(colours, lambda name, i: decomposed(name) if i % 2 else name))
    assert names(data) == names(read_folder(colours))


@pytest.mark.parametrize(
    "other",
    [
        "café  7",
        "café\u200b 7",
        "café\u00a07",
        "caf\u00adé 7",
        "\ufeffcafé 7",
        "café 7\ufe0f",
    ],
)
def test_names_that_differ_in_what_nobody_sees_are_refused(other: str, colours: Path) -> None:
    path = write_table(colours, lambda name, i: other if name == "café 7" and i % 2 else name)
    message = r"1 names of classes come in spellings that look the same, namely '.*caf.*' = '.*'"
    with pytest.raises(ValueError, match=message):
        read_table(path)
    (colours / "café 7" / "1.png").rename((colours / other).mkdir() or colours / other / "1.png")
    (colours / "café 7" / "2.png").rename(colours / other / "2.png")
    with pytest.raises(ValueError, match=message):
        read_folder(colours)


@pytest.mark.parametrize("other", ["CAFÉ 7", "Café 7", "ｃafé 7", "café ⁷"])
def test_names_that_differ_in_case_or_form_alone_get_a_warning(other: str, colours: Path) -> None:
    (colours / other).mkdir()
    for i in range(2):
        (colours / "café 7" / f"{i}.png").rename(colours / other / f"{i}.png")
    with pytest.warns(UserWarning, match=r"1 names of classes differ only in upper and lower case"):
        data = read_folder(colours)
    assert data.train.num_classes + data.test.num_classes == 25
