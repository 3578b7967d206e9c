"""CUB-200-2011 (Wah et al. 2011): photographs of birds, 200 species.

    images.txt                image_id path
    image_class_labels.txt    image_id class_id
    images/001.Name/file.jpg

train_test_split.txt is left alone: it splits the images of every class, so it would test on classes seen in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dml.data.annotations import IMAGE, NUMBER, Annotations, Row, first_few, read_lines, refuse_repeated
from dml.data.benchmarks import Benchmark
from dml.data.dataset import Loading
from dml.data.records import TrainTest

__all__ = ["CUB", "cub"]


def cub(
    root: str,
    *,
    train: Mapping[str, int],
    test: Mapping[str, int],
    short_side: int | None,
    cache: bool,
    cache_folder: str,
) -> TrainTest:
    """The first half of the species trains, the second tests.

    Args:
        root: the folder of the data set, or one up to two levels above it.
        train, test: the published numbers, which are asserted; see check_counts.
        short_side, cache, cache_folder: see Loading.

    Raises:
        FileNotFoundError, ValueError: see Benchmark.load.
    """
    loading = Loading(short_side=short_side, cache=cache, cache_folder=cache_folder)
    return CUB.load(root, {"train": train, "test": test}, loading)


def _read(folder: Path, anchor: str, train_classes: int) -> Annotations:
    images, labels = folder / "images.txt", folder / anchor
    files = list(read_lines(images, {"image_id": NUMBER, "path": IMAGE}))
    pairs = list(read_lines(labels, {"image_id": NUMBER, "class_id": NUMBER}))
    refuse_repeated([image for image, _ in files], f"the first column of {images}")
    class_of = {image: int(number) for image, number in pairs}
    if unlabelled := [file for image, file in files if image not in class_of]:
        raise ValueError(
            f"{labels} has no class for {len(unlabelled)} images of images.txt, {first_few(unlabelled)}: it was cut "
            "off; restore it from the archive"
        )
    rows = [
        Row(f"images/{file}", file.split("/")[0], "train" if class_of[image] <= train_classes else "test")
        for image, file in files
    ]
    return Annotations(folder, rows, (images, labels))


CUB = Benchmark("cub", ("image_class_labels.txt",), _read)
