"""In-Shop Clothes Retrieval (Liu et al. 2016): photographs of 7,982 garments.

    Eval/list_eval_partition.txt    the number of images, a header, then image item_id status
    Img/img/... or img/...          the images, which the list calls img/...

The status is train, query or gallery; every query looks for the gallery images of its garment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dml.data.annotations import IMAGE, WORD, Annotations, Row, read_lines
from dml.data.benchmarks import Benchmark
from dml.data.dataset import Loading
from dml.data.records import TrainTest

__all__ = ["INSHOP", "inshop"]


def inshop(
    root: str,
    *,
    train: Mapping[str, int],
    test: Mapping[str, int],
    short_side: int | None,
    cache: bool,
    cache_folder: str,
) -> TrainTest:
    """The split by class that comes with the set, with queries and gallery apart in its test half.

    Args:
        root: the folder of the data set, or one up to two levels above it.
        train, test: the published numbers, which are asserted; see check_counts.
        short_side, cache, cache_folder: see Loading.

    Raises:
        FileNotFoundError, ValueError: see Benchmark.load.
    """
    loading = Loading(short_side=short_side, cache=cache, cache_folder=cache_folder)
    return INSHOP.load(root, {"train": train, "test": test}, loading)


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
        raise ValueError(
            f"{path} announces {announced!r} images in its first line and has {count}: it was cut off, or is another "
            "list; restore it from the archive"
        )


INSHOP = Benchmark("inshop", ("Eval/list_eval_partition.txt", "list_eval_partition.txt"), _read)
