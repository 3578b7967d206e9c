"""Tables of the library datasets: what is read from them is what is read from a folder, or is refused by name."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dml.data import EvaluationTransform, TrainTest, evaluation_batches, folder, hub
from dml.data.protocols import hashed_half
from dml.errors import ConfigError
from tests.data.many_forms import as_table, photographs, write_folder
from tests.data.test_shards import pictures

datasets = pytest.importorskip("datasets", reason="the extra hub is not installed: pip install datasets")
pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
FILES = photographs()
HALVES = {
    half: {name: content for name, content in FILES.items() if hashed_half(name.split("/")[0]) == half}
    for half in ("train", "test")
}


def read(name: Path | str, place: Path, **options: object) -> TrainTest:
    settings = {"short_side": 6, "cache": False, "cache_folder": str(place / "cache")}
    return hub(str(name), **{**settings, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> TrainTest:
    root = write_folder(tmp_path_factory.mktemp("folder"), FILES)
    return folder(str(root), short_side=6, cache=False, cache_folder="")


@pytest.fixture(scope="module")
def table() -> Any:
    return as_table(FILES)


def in_halves() -> dict[str, Any]:
    """Train and test, as splits with the same class labels."""
    whole = as_table(FILES)
    names = [name.split("/")[0] for name in FILES]
    return {
        half: whole.select([i for i, name in enumerate(names) if hashed_half(name) == half])
        for half in ("train", "test")
    }


def write_plain_parquet(path: Path, table: Any) -> None:
    """Without the library's metadata, as other programs write it; the class as text."""
    names = table.features["kind"].int2str(table["kind"][:])
    columns = {"image": table.data.column("picture").combine_chunks(), "label": names}
    parquet.write_table(pyarrow.table(columns), path)


def write_paths(path: Path, files: list[Path]) -> None:
    """A table that names its pictures and does not hold them."""
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    images = pyarrow.array([{"bytes": None, "path": str(file)} for file in files], kind)
    names = [file.parent.name for file in files]
    parquet.write_table(pyarrow.table({"image": images, "label": names}), path)


FORMS: dict[str, Callable[[Path, Any], object]] = {
    "saved": lambda root, table: table.save_to_disk(root),
    "saved in splits": lambda root, _: datasets.DatasetDict(in_halves()).save_to_disk(root),
    "saved in several files": lambda root, table: table.save_to_disk(root, num_shards=3),
    "parquet": lambda root, table: table.to_parquet(root / "data.parquet"),
    "plain parquet": lambda root, table: write_plain_parquet(root / "data.parquet", table),
    "parquet in splits": lambda root, _: [
        part.to_parquet(root / f"{half}-00000-of-00001.parquet") for half, part in in_halves().items()
    ],
    "arrow": lambda root, table: (
        table.save_to_disk(root),
        (root / "state.json").unlink(),
        (root / "dataset_info.json").unlink(),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_set_in_tables_has_the_splits_labels_and_pixels_of_the_same_set_in_a_folder(
    form: str, expected: TrainTest, table: Any, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    FORMS[form](tmp_path / "set", table)
    assert pictures(read(tmp_path / "set", tmp_path)) == pictures(expected)
    assert pictures(read(tmp_path / "set", tmp_path, cache=True)) == pictures(expected)
    assert list((tmp_path / "cache").glob("hub-*.pixels"))


def test_threads_and_workers_read_what_one_reads_and_get_no_pictures(table: Any, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "set")
    train, _ = read(tmp_path / "set", tmp_path)
    alone = [train.image(i).tobytes() for i in range(len(train))]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: train.image(i).tobytes(), list(range(len(train))) * 4)) == alone * 4
    sent = pickle.dumps(train.images)
    assert len(sent) < 5000
    assert [pickle.loads(sent)[int(row)].tobytes() for row in train.rows] == alone
    transform = EvaluationTransform(size=4, resize=6, whole_pixels=True)
    batches = [list(evaluation_batches(train, transform, batch_size=5, num_workers=n)) for n in (0, 1)]
    assert all(a.images.equal(b.images) for a, b in zip(*batches, strict=True))


def test_pictures_that_lie_beside_the_table_are_read_from_their_files(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "folder", FILES)
    paths = [root / name for name in FILES]
    (tmp_path / "set").mkdir()
    write_paths(tmp_path / "set" / "a.parquet", paths)
    data = read(tmp_path / "set", tmp_path)
    assert len(data.train) + len(data.test) == len(FILES)
    before = data.train.images.encoded.identity
    paths[0].write_bytes(FILES["apple/0.jpg"] + b"more")
    assert read(tmp_path / "set", tmp_path).train.images.encoded.identity != before
    paths[0].unlink()
    with pytest.raises(OSError, match=r"rows, row 0 cannot be read: .*No such file.*apple/0\.jpg"):
        _ = data.train.images[0]


def test_copies_and_names_in_two_forms_are_warned_of_as_in_a_folder(tmp_path: Path) -> None:
    files = [FILES["plum/0.jpg"], FILES["plum/1.jpg"], FILES["plum/0.jpg"], *list(FILES.values())[:4]]
    names = ["plum", "plum", "pear", "e\u0301", "\u00e9", "pear", "quince"]
    rows = {"image": [{"bytes": content, "path": None} for content in files], "label": names}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    with pytest.warns(UserWarning) as found:
        data = read(tmp_path / "set", tmp_path)
    said = " ".join(str(warning.message) for warning in found)
    assert "1 images of dataset.name=" in said and "rows/000000 = rows/000002" in said
    assert "1 classes are spelled in two forms of Unicode" in said
    assert data.train.num_classes + data.test.num_classes == 4


def test_a_table_written_anew_leads_to_another_cache(table: Any, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "set")
    before = read(tmp_path / "set", tmp_path).train.images.encoded.identity
    table.select(range(len(table) - 1, -1, -1)).save_to_disk(tmp_path / "other")
    (tmp_path / "set").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "set")
    assert read(tmp_path / "set", tmp_path).train.images.encoded.identity != before


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"a": "image", "b": "image", "label": "class"},
            {},
            r"2 columns may be the image: a, b.*label \(ClassLabel\)",
        ),
        (
            {"a": "text", "label": "class"},
            {},
            r"no column can be the image: name it by dataset\.image=COLUMN",
        ),
        ({"a": "image", "x": "class", "y": "class"}, {}, r"2 columns may be the label: x, y"),
        ({"a": "image", "x": "text"}, {}, r"no column can be the label.*x \(string\)"),
        ({"a": "image", "label": "text", "class": "text"}, {}, r"2 columns may be the label: label, class"),
        (
            {"a": "image", "x": "class"},
            {"image": "x"},
            r"dataset\.image=x is no column that can be the image",
        ),
        (
            {"a": "image", "x": "class"},
            {"label": "a"},
            r"dataset\.label=a is no column that can be the label",
        ),
        ({"a": "image", "x": "class"}, {"label": "z"}, r"dataset\.label=z is no column"),
        (
            {"a": "image", "x": "class"},
            {"split": "z"},
            r"dataset\.split=z; accepted: given, hash, or a column",
        ),
    ],
)
def test_columns_that_are_ambiguous_or_wrong_are_refused_with_all_of_them(
    columns: dict[str, str], options: dict[str, str], message: str, tmp_path: Path
) -> None:
    make = {
        "image": datasets.Image(),
        "class": datasets.ClassLabel(names=["p", "q"]),
        "text": datasets.Value("string"),
    }
    value = {"image": {"bytes": FILES["plum/0.jpg"], "path": None}, "class": 0, "text": "t"}
    features = datasets.Features({name: make[kind] for name, kind in columns.items()})
    rows = {name: [value[kind]] for name, kind in columns.items()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "set", tmp_path, **options)


def test_columns_that_are_named_are_taken_and_plain_bytes_are_images(tmp_path: Path) -> None:
    rows = {
        "raw": list(FILES.values()),
        "what": [name.split("/")[0] for name in FILES],
        "label": [0] * len(FILES),
        "half": ["test" if name[0] == "p" else "train" for name in FILES],
    }
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    data = read(tmp_path / "set", tmp_path, image="raw", label="what", split="half")
    assert data.test.class_names == ("pear", "plum") and data.test.image(0).shape[2] == 3


def test_a_column_split_is_a_split_and_another_word_in_it_is_refused(tmp_path: Path) -> None:
    rows = {
        "image": [{"bytes": content, "path": None} for content in FILES.values()],
        "label": [name.split("/")[0] for name in FILES],
        "split": ["test" if name[0] == "p" else "train" for name in FILES],
    }
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    assert read(tmp_path / "set", tmp_path).test.class_names == ("pear", "plum")
    assert read(tmp_path / "set", tmp_path, split="hash").test.class_names != ("pear", "plum")
    rows["split"][3] = "val"
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "other")
    with pytest.raises(
        ValueError, match=r"column split says val; accepted: train, test.*dataset\.split=hash"
    ):
        read(tmp_path / "other", tmp_path)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "test"), r"5 classes have images in train and in test, the first are 'apple'"),
        (("train", "validation"), r"has the splits train, validation; accepted: train and test"),
    ],
)
def test_splits_of_images_are_refused_and_the_hash_is_the_way_out(
    splits: tuple[str, str], message: str, expected: TrainTest, table: Any, tmp_path: Path
) -> None:
    odd, even = (table.select(range(start, len(table), 2)) for start in (1, 0))
    datasets.DatasetDict(dict(zip(splits, (odd, even), strict=True))).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match=message + r".*dataset\.split=hash"):
        read(tmp_path / "set", tmp_path)
    assert pictures(read(tmp_path / "set", tmp_path, split="hash")) == pictures(expected)


def test_splits_with_other_columns_are_refused(table: Any, tmp_path: Path) -> None:
    parts = {"train": table, "test": table.rename_column("kind", "sort")}
    for half, part in parts.items():
        part.save_to_disk(tmp_path / "set" / half)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(
        ValueError, match=r"the columns of test and train differ, picture, sort and picture, kind"
    ):
        read(tmp_path / "set", tmp_path)


def test_rows_without_a_class_an_image_or_at_all_are_refused(table: Any, tmp_path: Path) -> None:
    rows = {"image": [None] * 2, "label": ["apple", "pear"]}
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(tmp_path / "empty")
    with pytest.raises(OSError, match=r"rows, row 0 has no image: remove the row"):
        read(tmp_path / "empty", tmp_path)
    rows["label"][1] = None
    datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(tmp_path / "nameless")
    with pytest.raises(ValueError, match=r"1 of 2 rows have no label, namely '1'"):
        read(tmp_path / "nameless", tmp_path)
    datasets.DatasetDict({"train": table.select([])}).save_to_disk(tmp_path / "none")
    with pytest.raises(OSError, match=r"none cannot be read"):
        read(tmp_path / "none", tmp_path)


def test_a_folder_that_holds_no_table_or_a_damaged_one_is_refused(table: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no parquet or arrow files; accepted"):
        read(tmp_path, tmp_path)
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.arrow").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"holds both parquet and arrow files: move one kind away"):
        read(tmp_path, tmp_path)
    (tmp_path / "b.arrow").unlink()
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-100])
    with pytest.raises(OSError, match=r"cannot be read: .*; a file is damaged or was not written whole"):
        read(tmp_path, tmp_path)
    table.save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.write_bytes(b"")
    with pytest.raises(OSError, match=r"cannot be read: .*; a file is damaged or was not written whole"):
        read(tmp_path / "saved", tmp_path)


def test_a_folder_has_no_revision_and_a_path_is_no_name_of_the_hub(table: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder: leave out dataset\.revision"):
        read(tmp_path, tmp_path, revision="a" * 40)
    for name in (tmp_path / "nowhere", "mnist", "https://x/y", "a/b/c", "../x/y"):
        with pytest.raises(FileNotFoundError, match=r"is no folder and no USER/SET of the Hub"):
            read(name, tmp_path)


def test_a_set_on_the_hub_is_pinned_to_a_commit(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(name: str, config: str | None, **options: object) -> Any:
        asked.append((name, config, options))
        return datasets.DatasetDict({"train": table})

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = read("user/set", tmp_path, revision="b" * 40, config="small")
    assert len(data.train) and not data.train.is_query
    ((name, config, options),) = asked
    assert (name, config, options["revision"], options["streaming"]) == ("user/set", "small", "b" * 40, False)
    assert not options.get("trust_remote_code")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": table.select([])})
    with pytest.raises(ValueError, match=r"dataset\.name=user/set has no rows"):
        read("user/set", tmp_path, revision="b" * 40)


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_revision_that_can_change_is_refused_with_the_commit_of_now(
    revision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Api:
        def dataset_info(self, name: str, revision: str | None) -> Any:
            return type("Info", (), {"sha": "c" * 40})

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(ConfigError, match=r"by dataset\.revision=COMMIT; at present that is " + "c" * 40):
        read("user/set", tmp_path, revision=revision)
    monkeypatch.delattr(Api, "dataset_info")
    with pytest.raises(ConfigError, match=r"by dataset\.revision=COMMIT \(it could not be looked up"):
        read("user/set", tmp_path, revision=revision)


def test_a_set_that_cannot_be_had_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"dataset\.name=user/set at d{40} cannot be had: .*offline|Offline"):
        read("user/set", tmp_path, revision="d" * 40)
