"""Stanford Online Products (Song et al. 2016): photographs of 22,634 things for sale.

The split by class comes with the set.

Ebay_train.txt, Ebay_test.txt    a header, then image_id class_id super_class_id path
bicycle_final/111085122871_0.JPG
"""

from __future__ import annotations

from pathlib import Path

from dml.data.annotations import IMAGE, NUMBER, Annotations, Row, read_lines
from dml.data.published_sets import PublishedSet

__all__ = ["sop"]


def _read(folder: Path, anchor: str, train_classes: int) -> Annotations:
    columns = {"image_id": NUMBER, "class_id": NUMBER, "super_class_id": NUMBER, "path": IMAGE}
    sources = {"train": folder / anchor, "test": folder / "Ebay_test.txt"}
    rows = [
        Row(file, f"{int(number):05d}", half)
        for half, path in sources.items()
        for _, number, _, file in read_lines(path, columns, skip=1)
    ]
    return Annotations(folder, rows, tuple(sources.values()))


sop = PublishedSet("sop", ("Ebay_train.txt",), _read)
