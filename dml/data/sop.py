"""Stanford Online Products (Song et al. 2016): photographs of 22,634 things for sale.

Ebay_train.txt, Ebay_test.txt    a header, then image_id class_id super_class_id path
bicycle_final/111085122871_0.JPG
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dml.data.annotations import IMAGE, NUMBER, Annotations, Row, read_lines
from dml.data.benchmarks import Benchmark
from dml.data.dataset import Loading
from dml.data.records import TrainTest

__all__ = ["SOP", "sop"]


def sop(
    root: str,
    *,
    train: Mapping[str, int],
    test: Mapping[str, int],
    short_side: int | None,
    cache: bool,
    cache_folder: str,
) -> TrainTest:
    """The split by class that comes with the set.

    Args:
        root: the folder of the data set, or one up to two levels above it.
        train, test: the published numbers, which are asserted; see check_counts.
        short_side, cache, cache_folder: see Loading.

    Raises:
        FileNotFoundError, ValueError: see Benchmark.load.
    """
    loading = Loading(short_side=short_side, cache=cache, cache_folder=cache_folder)
    return SOP.load(root, {"train": train, "test": test}, loading)


def _read(folder: Path, anchor: str, train_classes: int) -> Annotations:
    columns = {"image_id": NUMBER, "class_id": NUMBER, "super_class_id": NUMBER, "path": IMAGE}
    sources = {"train": folder / anchor, "test": folder / "Ebay_test.txt"}
    rows = [
        Row(file, f"{int(number):05d}", half)
        for half, path in sources.items()
        for _, number, _, file in read_lines(path, columns, skip=1)
    ]
    return Annotations(folder, rows, tuple(sources.values()))


SOP = Benchmark("sop", ("Ebay_train.txt",), _read)
