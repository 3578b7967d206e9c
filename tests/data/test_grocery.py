"""The Grocery Store data set: its lists, its split, and the real files where they lie."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dml.assembly import build_data
from dml.config import TrainConfig
from dml.data import TrainTest, grocery
from dml.data.near_duplicates import near_duplicates
from dml.data.published_sets import write_index
from tests.data.conftest import write_grocery

Write = Callable[[str, Path], Path]
Read = Callable[..., TrainTest]
REAL = Path(os.environ.get("DML_GROCERY", Path(__file__).parents[3] / "shared" / "data" / "grocery"))
real = pytest.mark.skipif(
    not (REAL / "dataset").is_dir(), reason=f"no {REAL}: give the data set by DML_GROCERY=DIR"
)


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / "dataset" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_products_take_turns_and_both_halves_search_across_visits(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    write_small("grocery", tmp_path)
    train, test = read_small("grocery", tmp_path)
    assert train.class_names == ("Apple-00", "Apple-02") and test.class_names == (
        "Zucchini-01",
        "Zucchini-03",
    )
    for half in (train, test):
        assert half.is_query is not None
        assert [file.startswith("dataset/test/") for file in half.files] == half.is_query.tolist()


def test_cartons_and_products_of_one_kind_are_levels(read_small: Read, tmp_path: Path) -> None:
    write_grocery(tmp_path, [(1, 1)] * 8)
    counts = {"classes": 4, "images": 8}
    _, test = read_small("grocery", tmp_path, train=counts, test=counts)
    assert test.levels["cartons"].keys() == {"Apple-04", "Zucchini-05", "Apple-06", "Zucchini-07"}
    assert [test.levels["same_kind"][name] for name in test.class_names] == ["Kind-0"] * 2 + ["Kind-1"] * 2


def test_the_index_keeps_the_levels(write_small: Write, read_small: Read, tmp_path: Path) -> None:
    folder = write_small("grocery", tmp_path)
    read = read_small("grocery", tmp_path)
    write_index(grocery.read(folder, "dataset/classes.csv", 2))
    assert read_small("grocery", tmp_path).test.levels == read.test.levels


def test_a_class_that_no_line_of_the_classes_has_is_refused(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small("grocery", tmp_path)
    edit(folder, "val.txt", ", 3, 0", ", 33, 0")
    with pytest.raises(ValueError, match=r"val\.txt has .* class 33 and coarse class 0, and .*no such class"):
        read_small("grocery", tmp_path)


def test_two_classes_of_one_name_are_refused(write_small: Write, read_small: Read, tmp_path: Path) -> None:
    folder = write_small("grocery", tmp_path)
    edit(folder, "classes.csv", "Apple-02", "Apple-00")
    with pytest.raises(ValueError, match="1 names to several classes, namely 'Apple-00'"):
        read_small("grocery", tmp_path)


def test_a_list_that_was_cut_off_is_refused(write_small: Write, read_small: Read, tmp_path: Path) -> None:
    folder = write_small("grocery", tmp_path)
    edit(folder, "test.txt", ", 3, 0", ", 3")
    with pytest.raises(
        ValueError, match=r"test\.txt, line 4 is .*expected 3 fields: path class_id coarse_id"
    ):
        read_small("grocery", tmp_path)


@real
def test_the_real_files_are_as_published_and_validation_searches_across_visits(
    compose_config: Callable[..., TrainConfig],
) -> None:
    cfg = compose_config("dataset=grocery", f"dataset.root={REAL}", "dataset.cache=false")
    splits = build_data(cfg)
    assert (splits.train.num_classes, splits.val.num_classes, splits.test.num_classes) == (29, 12, 40)
    assert splits.val.is_query is not None and 0.4 < splits.val.is_query.mean() < 0.5
    kinds = splits.test.levels["same_kind"]
    of_test, of_train = ({kinds[name] for name in names} for names in (splits.test.class_names, kinds))
    assert len(kinds) == 81 and len(of_test) > 20 and of_test < of_train
    assert len(splits.test.levels["cartons"]) == 31
    assert near_duplicates(splits.test) == near_duplicates(splits.val) == []
