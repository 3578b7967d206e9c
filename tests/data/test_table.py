"""Your own images, listed in a table."""

from pathlib import Path

import pytest
from PIL import Image

from dml.data import TrainTest, table
from dml.data.protocols import hashed_half

PLAIN = "path,label\n" + "".join(
    f"{i}.png,{label}\n" for i, label in enumerate(["pear", "pear", "apple", "apple"])
)
ROLES = "path,label,split,role\n0.png,a,train,\n1.png,a,train,\n2.png,b,test,query\n3.png,b,test,gallery\n"


def read(folder: Path, text: str, encoding: str = "utf-8") -> TrainTest:
    (folder / "items.csv").write_text(text, encoding=encoding)
    for i in range(4):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(folder / f"{i}.png")
    return table(str(folder / "items.csv"), short_side=None, cache=False, cache_folder="")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_without_a_split_the_hash_of_the_label_decides(encoding: str, tmp_path: Path) -> None:
    train, test = read(tmp_path, PLAIN, encoding)
    assert [hashed_half("apple"), hashed_half("pear")] == ["train", "test"]
    assert train.class_names == ("apple",) and train.files == ("2.png", "3.png")
    assert test.class_names == ("pear",) and test.image(1)[0, 0].tolist() == [1, 0, 0]


def test_split_and_role_are_taken_as_given_and_other_columns_left_alone(tmp_path: Path) -> None:
    text = ROLES.replace("path,label", "price,path,label").replace("\n", "\n9,").removesuffix("9,")
    train, test = read(tmp_path, text)
    assert train.is_query is None and train.files == ("0.png", "1.png")
    assert test.is_query is not None and test.is_query.tolist() == [True, False]


def test_a_path_may_be_absolute_or_quoted_and_lead_through_other_folders(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    Image.new("RGB", (8, 6), (7, 0, 0)).save(tmp_path / "red, dark.png")
    text = f'path,label\n{tmp_path}/lists/0.png,apple\n"../red, dark.png",apple\n1.png,pear\n2.png,pear\n'
    train, _ = read(tmp_path / "lists", text)
    assert train.image(0)[0, 0].tolist() == [0, 0, 0] and train.image(1)[0, 0].tolist() == [7, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,lable\n0.png,a\n",
            r"has no column label; its first line names path, lable\. It needs path and label",
        ),
        ("0.png;a\n1.png;b\n", r"has no column path; its first line names 0\.png;a"),
        ("", r"has no column path; its first line names nothing"),
        ("path,label\n", r"lists no images"),
        ("path,label\n0.png\n", r"line 2 has fewer fields than there are columns"),
        ("path,label\n0.png,a,b\n", r"line 2 has more fields than there are columns: .*double quotes"),
        ("path,label\n0.png,\n", r"line 2 has an empty label: fill it in or remove the line"),
        ("path,label\n ,a\n", r"line 2 has an empty path"),
        ("path,label\n0.png,a\n./0.png,a\n", r"1 more than once, namely '0\.png'"),
        ("path,label\n0.png,a\n0.png,b\n", r"1 more than once, namely '0\.png': each image has one line"),
        (
            "path,label\n0.png,a\nno.png,a\n",
            r"1 of 2 images are not there, namely 'no\.png'; a path is absolute or",
        ),
        ("path,label,split\n0.png,a,val\n", r"line 2 has split 'val'; accepted: train, test"),
        ("path,label,split\n0.png,a,train\n1.png,b,\n", r"line 3 has split ''; accepted: train, test"),
        ("path,label,role\n0.png,a,probe\n", r"line 2 has role 'probe'; accepted: query, gallery"),
        ("path,label,split\n0.png,a,train\n1.png,a,test\n", r"1 classes have images in train and in test"),
        (ROLES.replace("gallery", ""), r"1 test images have no role, namely '3\.png', but others have"),
        (ROLES.replace("gallery", "query"), r"every test image is a query: give query to some"),
        ('path,label\n"0.png,a\n', r"is no table of comma-separated values in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_gets_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(tmp_path, text)


def test_another_encoding_or_no_file_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no table of comma-separated values in UTF-8"):
        read(tmp_path, PLAIN.replace("pear", "Äpfel"), "latin-1")
    with pytest.raises(FileNotFoundError, match=r"dataset.path=.*nothing.csv is no file: give a CSV table"):
        table(str(tmp_path / "nothing.csv"), short_side=None, cache=False, cache_folder="")


def test_a_class_with_one_image_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"2 of 3 classes have one image, the first are 'apple', 'plum'"):
        read(tmp_path, PLAIN.replace("3.png,apple", "3.png,plum"))
