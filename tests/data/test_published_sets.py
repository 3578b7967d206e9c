"""The benchmarks in every layout: what is read, what is counted, and what is refused."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from dml.assembly import build_data
from dml.config import TrainConfig, build
from dml.data import TrainTest, cub
from dml.data.published_sets import INDEX, write_index

Write = Callable[[str, Path], Path]
Read = Callable[..., TrainTest]
Compose = Callable[..., TrainConfig]


def test_every_layout_is_read_and_split_by_class(
    layout: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    write_small(layout, tmp_path)
    train, test = read_small(layout, tmp_path)
    assert (train.num_classes, len(train), test.num_classes, len(test)) == (2, 5, 2, 6)
    assert not set(train.class_names) & set(test.class_names)
    assert np.bincount(train.labels).tolist() == [3, 2] and np.bincount(test.labels).tolist() == [2, 4]
    assert train.class_names < test.class_names


def test_every_image_is_the_one_of_its_file(
    layout: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small(layout, tmp_path)
    for half in read_small(layout, tmp_path):
        for i, file in enumerate(half.files):
            with Image.open(folder / file) as image:
                np.testing.assert_array_equal(half.image(i), np.asarray(image))


@pytest.mark.parametrize("above", ["", "one", "one/two"])
def test_a_data_set_is_found_at_the_root_and_up_to_two_folders_below(
    above: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small("cars", tmp_path / above)
    assert len(read_small("cars", tmp_path).train) == len(read_small("cars", folder).train) == 5


def test_both_layouts_of_cars_have_the_same_classes(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    for layout in ("cars", "cars_split"):
        write_small(layout, tmp_path / layout)
    flat, split = (read_small(name, tmp_path / name) for name in ("cars", "cars_split"))
    assert [half.class_names for half in flat] == [half.class_names for half in split]


def test_in_shop_has_queries_and_a_gallery_in_its_test_half(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    write_small("inshop", tmp_path)
    train, test = read_small("inshop", tmp_path)
    assert train.is_query is None and test.is_query is not None
    assert test.is_query.tolist() == [True, False, True, False, False, False]


@pytest.mark.parametrize("name", ["cub", "cars", "cars_split", "sop", "inshop", "grocery"])
def test_the_published_counts_are_those_of_the_configuration(
    name: str, write_full: dict[str, Callable[[Path], Path]], compose_config: Compose
) -> None:
    with tempfile.TemporaryDirectory() as root:
        write_full[name](Path(root))
        config = compose_config(f"dataset={name.split('_')[0]}", f"paths.data={root}")
        train, test = build(config.dataset)
        assert len(build_data(config).val) > 0
    for half, published in ((train, config.dataset.train), (test, config.dataset.test)):
        assert published.items() >= {"classes": half.num_classes, "images": len(half)}.items()
        assert (half.is_query is not None) == ("query" in published)
        assert half.is_query is None or half.is_query.sum() == published.query


def test_a_wrong_root_says_what_is_looked_for_and_how_to_give_it(
    layout: str, read_small: Read, tmp_path: Path
) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"finds no .* \(which is no folder\) or .*DML_DATA.*dml prepare"
    ):
        read_small(layout, tmp_path / "nowhere")


def test_a_data_set_that_is_there_twice_has_to_be_chosen(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    for place in ("old", "new"):
        write_small("cub", tmp_path / place)
    with pytest.raises(ValueError, match=r"more than once: .*new.*old.*choose one by dataset\.root"):
        read_small("cub", tmp_path)


def test_links_that_lead_in_circles_end_and_classes_may_be_links_to_one_folder(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small("cub", tmp_path) / "images"
    first, second = sorted(folder.iterdir())[:2]
    for image in second.iterdir():
        image.rename(first / image.name)
    second.rmdir()
    second.symlink_to(first)
    for name in ("all", "again"):  # two double the names with every level
        (folder / name).symlink_to(".")
    assert [len(half) for half in read_small("cub", tmp_path)] == [5, 6]


def test_half_an_archive_names_the_first_images_that_are_missing(
    layout: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small(layout, tmp_path)
    for path in sorted(folder.rglob("*.[jJ]*"))[:4]:
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"4 of 11 images are missing below .*the first are '.*unpack it again"
    ):
        read_small(layout, tmp_path)


def test_counts_that_differ_from_the_published_ones_are_refused_with_images_that_no_line_names(
    layout: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small(layout, tmp_path)
    picture = next(folder.rglob("*.[jJ]*"))
    picture.with_name("forgotten.jpg").write_bytes(picture.read_bytes())
    with pytest.raises(
        ValueError, match=r"test has 6 images, published are 7; no line names 1 images.*forgotten"
    ):
        read_small(layout, tmp_path, test={"classes": 2, "images": 7})


@pytest.mark.parametrize("numbers", [{"classes": 2}, {"classes": 2, "images": "many"}, {"imagse": 5}])
def test_expected_numbers_that_are_none_are_refused(
    numbers: dict[str, object], read_small: Read, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"dataset\.train=.*give whole numbers of classes and images"):
        read_small("cub", tmp_path, train=numbers)


LISTS = {
    "cub": "images.txt",
    "sop": "Ebay_train.txt",
    "inshop": "Eval/list_eval_partition.txt",
}


def edit_line(folder: Path, name: str, edit: Callable[[str], str]) -> None:
    """Change the fourth line of the list of a data set."""
    path = folder / LISTS[name]
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = edit(lines[3])
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("name", list(LISTS))
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda line: line[: len(line) // 2], r"line 4 is .*expected \d fields: .*cut off, or has too many"),
        (lambda line: line + " 17 extra", r"line 4 is .*expected \d fields"),
        (lambda line: "x" if line[0].isdigit() else "x y", r"line 4 is .*expected \d fields"),
        (lambda line: outside(line, "../"), r"line 4 names '\.\./.*outside of the data set"),
        (lambda line: outside(line, "/"), r"line 4 names '/.*outside of the data set"),
    ],
)
def test_a_damaged_line_is_refused_with_its_number(
    name: str, edit: Callable[[str], str], message: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    edit_line(write_small(name, tmp_path), name, edit)
    with pytest.raises(ValueError, match=message):
        read_small(name, tmp_path)


def outside(line: str, prefix: str) -> str:
    return next(
        line.replace(start, prefix + start) for start in ("img/", "sofa", "001.", "002.") if start in line
    )


@pytest.mark.parametrize("name", ["cub", "sop"])
def test_an_image_that_is_listed_twice_is_named(
    name: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small(name, tmp_path)
    path = folder / LISTS[name]
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.append(lines[-1] if name == "sop" else "99 " + lines[-1].split(maxsplit=1)[1])
    path.write_text("\n".join(lines), encoding="utf-8")
    if name == "cub":
        labels = folder / "image_class_labels.txt"
        labels.write_text(labels.read_text() + "99 4\n")
    with pytest.raises(ValueError, match=r"1 more than once, namely '.*each image has one line"):
        read_small(name, tmp_path)


def test_cub_numbers_that_repeat_or_lack_a_class_are_refused(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small("cub", tmp_path)
    labels = (folder / "image_class_labels.txt").read_text()
    (folder / "image_class_labels.txt").write_text("\n".join(labels.splitlines()[:-2]))
    with pytest.raises(ValueError, match=r"no class for 2 images of images\.txt, the first are"):
        read_small("cub", tmp_path)
    (folder / "image_class_labels.txt").write_text(labels)
    edit_line(folder, "cub", lambda line: "1" + line[1:])
    with pytest.raises(ValueError, match=r"first column of .*images\.txt names 1 more than once, namely '1'"):
        read_small("cub", tmp_path)


def test_an_in_shop_list_that_was_cut_is_refused(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    path = write_small("inshop", tmp_path) / LISTS["inshop"]
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-2]), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"announces '11' images in its first line and has 9: it was cut off"
    ):
        read_small("inshop", tmp_path)


@pytest.mark.parametrize(("layout", "missing"), [("sop", "Ebay_test.txt"), ("cub", "images.txt")])
def test_a_missing_annotation_file_is_named(
    layout: str, missing: str, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    (write_small(layout, tmp_path) / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{missing} is missing"):
        read_small(layout, tmp_path)


def test_cars_without_the_labels_of_the_test_folder_says_which_file_has_them(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    (write_small("cars_split", tmp_path) / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"withlabels.mat is missing: cars_test_annos.mat .* no classes"
    ):
        read_small("cars_split", tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["car_ims/1.jpg", "../1.jpg"],
            r"annotation 2 names '\.\./1\.jpg', which lies outside of the data set",
        ),
        (
            ["car_ims/1.jpg", "car_ims/1.jpg"],
            r"cars_annos.mat names 1 more than once, namely 'car_ims/1\.jpg'",
        ),
    ],
)
def test_a_table_of_cars_that_leads_outside_or_repeats_an_image_is_refused(
    files: list[str], message: str, read_small: Read, tmp_path: Path
) -> None:
    table = np.zeros(2, dtype=[("relative_im_path", object), ("class", object)])
    table["relative_im_path"], table["class"] = files, [1, 2]
    scipy.io.savemat(tmp_path / "cars_annos.mat", {"annotations": table[None]})
    with pytest.raises(ValueError, match=message):
        read_small("cars", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a table", None])
def test_a_damaged_table_of_cars_is_refused(
    content: bytes | None, write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    path = write_small("cars", tmp_path) / "cars_annos.mat"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(ValueError, match=r"cars_annos.mat has no table `annotations`"):
        read_small("cars", tmp_path)


def test_the_index_is_used_until_an_annotation_file_changes(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small("cub", tmp_path)
    before = read_small("cub", tmp_path)
    counts = {"train": {"classes": 2, "images": 5}, "test": {"classes": 2, "images": 6}}
    write_index(cub.verify(folder, "image_class_labels.txt", counts))
    missing = folder / before.train.files[0]
    missing.unlink()
    after = read_small("cub", tmp_path)
    assert (
        after.train.files == before.train.files and after.test.labels.tolist() == before.test.labels.tolist()
    )
    os.utime(folder / "images.txt", ns=(0, 0))
    with pytest.raises(FileNotFoundError, match="1 of 11 images are missing"):
        read_small("cub", tmp_path)


def test_a_damaged_index_is_ignored(write_small: Write, read_small: Read, tmp_path: Path) -> None:
    folder = write_small("cub", tmp_path)
    for content in ("", "{}", "[1]", '{"sources": {}, "rows": [[1]]}'):
        (folder / INDEX).write_text(content)
        assert len(read_small("cub", tmp_path).train) == 5


def test_an_index_that_names_a_file_outside_is_ignored(
    write_small: Write, read_small: Read, tmp_path: Path
) -> None:
    folder = write_small("cub", tmp_path)
    counts = {"train": {"classes": 2, "images": 5}, "test": {"classes": 2, "images": 6}}
    path = write_index(cub.verify(folder, "image_class_labels.txt", counts))
    content, files = json.loads(path.read_text(encoding="ascii")), read_small("cub", tmp_path).train.files
    content["rows"][0][0] = "../outside.jpg"
    path.write_text(json.dumps(content), encoding="ascii")
    assert read_small("cub", tmp_path).train.files == files


def test_annotations_of_cars_that_unpack_to_gigabytes_are_refused(
    write_small: Write, read_small: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small("cars", tmp_path)
    scipy.io.savemat(tmp_path / "cars_annos.mat", {"annotations": np.zeros(2**20)}, do_compression=True)
    monkeypatch.setattr(sys.modules["dml.data.cars"], "LARGEST", 2**20)
    with pytest.raises(
        ValueError, match=r"cars_annos.mat has \d,\d+ bytes and unpacks to more than 1,048,576"
    ):
        read_small("cars", tmp_path)
