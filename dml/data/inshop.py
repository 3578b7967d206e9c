"""In-Shop Clothes Retrieval (Liu et al. 2016): photographs of 7,982 garments.

The split by class comes with the set, with queries and gallery apart in its test half.

    Eval/list_eval_partition.txt    the number of images, a header, then image item_id status
    Img/img/... or img/...          the images, which the list calls img/...

The status is train, query or gallery; every query looks for the gallery images of its garment.
"""

from __future__ import annotations

from pathlib import Path

from dml.data.annotations import IMAGE, WORD, Annotations, Row, read_lines
from dml.data.published_sets import PublishedSet
from dml.errors import InputError

__all__ = ["inshop"]


def _read(folder: Path, anchor: str, train_classes: int) -> Annotations:
    path = folder / anchor
    prefix = "Img/" if (folder / "Img" / "img").is_dir() else ""
    lines = list(read_lines(path, {"image": IMAGE, "item_id": WORD, "status": "train|query|gallery"}, skip=2))
    _check_announced(path, len(lines))
    rows = [
        Row(
            prefix + file, item, "train" if status == "train" else "test", "" if status == "train" else status
        )
        for file, item, status in lines
    ]
    return Annotations(folder, rows, (path,))


def _check_announced(path: Path, count: int) -> None:
    """The first line says how many there are, so a list that was cut off shows."""
    announced = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n", 1)[0].strip()
    if announced != str(count):
        raise InputError(
            f"{path} announces {announced!r} images in its first line and has {count}: it was cut off, or is another "
            "list; restore it from the archive"
        )


inshop = PublishedSet("inshop", ("Eval/list_eval_partition.txt", "list_eval_partition.txt"), _read)
