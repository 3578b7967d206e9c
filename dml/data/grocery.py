"""The Grocery Store data set (Klasson, Zhang and Kjellström, WACV 2019): smartphone photographs of 81 products.

    dataset/classes.csv                   a header, then name, number, coarse name, coarse number and two paths
    dataset/train.txt, val.txt, test.txt  path, class_id, coarse_id
    dataset/train/Fruit/Apple/Golden-Delicious/Golden-Delicious_001.jpg

Products with an even number train, those with an odd one are tested. Products of a kind have numbers in a row, so each
kind is shared out evenly. The lists train.txt and val.txt are of other visits to the shop than test.txt, and within a
visit images repeat themselves: so in both halves the images of test.txt search among those of the other two lists.
"""

from __future__ import annotations

from pathlib import Path

from dml.data.annotations import IMAGE, NUMBER, Annotations, Row, first_few, read_lines
from dml.data.published_sets import PublishedSet
from dml.errors import InputError

__all__ = ["grocery"]

ROLES = {"train": "gallery", "val": "gallery", "test": "query"}
CARTONS = "Packages"  # the folder of what stands before shelves of other cartons
COMMA = r"\s*,\s*"
ANY = r"[^,]*"


def _read(folder: Path, anchor: str, train_classes: int) -> Annotations:
    classes = folder / anchor
    lists = {name: classes.with_name(f"{name}.txt") for name in ROLES}
    names = _names(classes)
    rows, cartons, kinds = [], dict[str, str](), dict[str, str]()
    for listed, path in lists.items():
        for file, number, kind in read_lines(
            path, {"path": IMAGE, "class_id": NUMBER, "coarse_id": NUMBER}, separator=COMMA
        ):
            if (number, kind) not in names:
                raise InputError(
                    f"{path} has {file!r} of class {number} and coarse class {kind}, and {classes} has no such "
                    "class: restore both from the repository of the data set"
                )
            label, kinds[label] = names[number, kind]
            if file.split("/")[1] == CARTONS:
                cartons[label] = CARTONS
            half = "test" if int(number) % 2 else "train"
            rows.append(Row(f"{classes.parent.name}/{file}", label, half, ROLES[listed]))
    levels = {"cartons": cartons, "same_kind": kinds}
    return Annotations(folder, rows, (classes, *lists.values()), levels)


def _names(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Number and coarse number -> name and coarse name of each class."""
    columns = {"name": ANY, "class_id": NUMBER, "coarse name": ANY, "coarse_id": NUMBER}
    lines = read_lines(path, {**columns, "icon": ANY, "description": ANY}, skip=1, separator=COMMA)
    names = {(number, kind): (name, coarse) for name, number, coarse, kind, *_ in lines}
    labels = [name for name, _ in names.values()]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise InputError(
            f"{path} gives {len(repeated)} names to several classes, {first_few(repeated)}: restore it from the "
            "repository of the data set"
        )
    return names


grocery = PublishedSet("grocery", ("dataset/classes.csv",), _read)
