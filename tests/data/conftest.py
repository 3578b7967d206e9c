"""Small trees in the official formats of the benchmarks, and the same at full size."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from dml.data import TrainTest, cars, cub, grocery, inshop, sop

Writer = Callable[[Path, Sequence[str]], None]
READERS = {"cub": cub, "cars": cars, "sop": sop, "inshop": inshop, "grocery": grocery}


def write_pictures(folder: Path, files: Sequence[str]) -> None:
    """A small JPEG of its own at each place."""
    for i, file in enumerate(files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((24, 18)).save(path, "JPEG")


def link_pictures(folder: Path, files: Sequence[str]) -> None:
    """One picture under many names; a file system allows some 65,000 names for a file."""
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "JPEG")
    for parent in {(folder / file).parent for file in files}:
        parent.mkdir(parents=True, exist_ok=True)
    for i, file in enumerate(files):
        if i % 30_000 == 0:
            source = folder / file
            source.write_bytes(buffer.getvalue())
        else:
            os.link(source, folder / file)


def numbered(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Class number from 1, and number of the image in it, for classes of these sizes."""
    return [(c, i) for c, size in enumerate(sizes, 1) for i in range(1, size + 1)]


def write_cub(root: Path, sizes: Sequence[int], write: Writer = write_pictures) -> Path:
    folder = root / "CUB_200_2011"
    names = {c: f"{c:03d}.Bird_of_Güneş {c}" for c in range(1, len(sizes) + 1)}
    files = [f"{names[c]}/Bird {i:04d}_{c}.jpg" for c, i in numbered(sizes)]
    write(folder / "images", files)
    lines = {
        "images.txt": [f"{n} {file}" for n, file in enumerate(files, 1)],
        "image_class_labels.txt": [f"{n} {c}" for n, (c, _) in enumerate(numbered(sizes), 1)],
        "classes.txt": [f"{c} {name}" for c, name in names.items()],
        "train_test_split.txt": [f"{n} {n % 2}" for n in range(1, len(files) + 1)],
    }
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    return folder


def save_annotations(path: Path, field: str, files: Sequence[str], classes: Sequence[int]) -> None:
    box = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]
    table = np.zeros(len(files), dtype=[(name, object) for name in [field, *box, "class"]])
    table[field], table["class"] = files, classes
    for name in box:
        table[name] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"annotations": table[None]})


def write_cars(root: Path, sizes: Sequence[int], write: Writer = write_pictures) -> Path:
    files = [f"car_ims/{n:06d}.jpg" for n in range(1, sum(sizes) + 1)]
    write(root, files)
    save_annotations(root / "cars_annos.mat", "relative_im_path", files, [c for c, _ in numbered(sizes)])
    return root


def write_cars_split(
    root: Path, sizes: Sequence[int], write: Writer = write_pictures, *, labelled: str = ""
) -> Path:
    """Every other image of each class in the test folder, as in the closed-set split."""
    for half, place in enumerate(
        ["devkit/cars_train_annos.mat", f"{labelled}cars_test_annos_withlabels.mat"]
    ):
        classes = [c for c, i in numbered(sizes) if i % 2 == half]
        files = [f"{n:05d}.jpg" for n in range(1, len(classes) + 1)]
        write(root / ("cars_train", "cars_test")[half], files)
        save_annotations(root / place, "fname", files, classes)
    return root


def write_sop(root: Path, train: Sequence[int], test: Sequence[int], write: Writer = write_pictures) -> Path:
    folder = root / "Stanford_Online_Products"
    lines = [(c, f"sofa final/{c:06d}_{i}.JPG") for c, i in numbered([*train, *test])]
    write(folder, [file for _, file in lines])
    for name in ("train", "test"):
        rows = [
            f"{n} {c} 1 {file}"
            for n, (c, file) in enumerate(lines, 1)
            if (c <= len(train)) == (name == "train")
        ]
        text = "\n".join(["image_id class_id super_class_id path", *rows])
        (folder / f"Ebay_{name}.txt").write_text(text + "\n", encoding="utf-8")
    return folder


def write_inshop(
    root: Path,
    train: Sequence[int],
    test: Sequence[tuple[int, int]],
    write: Writer = write_pictures,
    *,
    images: str = "Img/",
) -> Path:
    """Sizes of the train classes; numbers of queries and gallery images of the test classes."""
    sizes = [*train, *(query + gallery for query, gallery in test)]
    lines = []
    for c, i in numbered(sizes):
        role = "train" if c <= len(train) else "query" if i <= test[c - 1 - len(train)][0] else "gallery"
        lines.append(
            (f"img/WOMEN/Tees & Tänks/id_{c // 100:08d}/{c}_{i:02d}_1_front.jpg", f"id_{c:08d}", role)
        )
    write(root / images, [file for file, _, _ in lines])
    text = "\n".join([str(len(lines)), "image_name item_id evaluation_status", *map("   ".join, lines)])
    (root / "Eval").mkdir(parents=True, exist_ok=True)
    (root / "Eval" / "list_eval_partition.txt").write_text(text + "\n", encoding="utf-8")
    return root


def write_grocery(root: Path, sizes: Sequence[tuple[int, int]], write: Writer = write_pictures) -> Path:
    """Numbers of queries and gallery images of each product; the first trains, the second is tested, and so on.

    Two products in a row that train or are tested are of one kind; every other kind is of cartons.
    """
    folder = root / "GroceryStoreDataset"
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    classes = [
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Icon,Description"
    ]
    for c, (queries, gallery) in enumerate(sizes):
        name, kind = f"{'Zucchini' if c % 2 else 'Apple'}-{c:02d}", c // 4
        place = f"{'Packages' if kind % 2 else 'Fruit'}/Kind-{kind}/{name}/{name}"
        classes.append(f"{name},{c},Kind-{kind},{kind},/i.jpg,/d.txt")
        for listed, count in (("test", queries), ("val", min(1, gallery)), ("train", gallery - 1)):
            lists[listed] += [f"{listed}/{place}_{i:03d}.jpg, {c}, {kind}" for i in range(1, count + 1)]
    files = [line.split(",")[0] for lines in lists.values() for line in lines]
    write(folder / "dataset", files)
    for name, lines in {"classes.csv": classes, **{f"{k}.txt": v for k, v in lists.items()}}.items():
        (folder / "dataset" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


SMALL = {
    "cub": partial(write_cub, sizes=[3, 2, 2, 4]),
    "cars": partial(write_cars, sizes=[3, 2, 2, 4]),
    "cars_split": partial(write_cars_split, sizes=[3, 2, 2, 4]),
    "cars_split_devkit": partial(write_cars_split, sizes=[3, 2, 2, 4], labelled="devkit/"),
    "sop": partial(write_sop, train=[3, 2], test=[2, 4]),
    "inshop": partial(write_inshop, train=[3, 2], test=[(1, 1), (1, 3)]),
    "inshop_flat": partial(write_inshop, train=[3, 2], test=[(1, 1), (1, 3)], images=""),
    "grocery": partial(write_grocery, sizes=[(1, 2), (1, 1), (1, 1), (1, 3)]),
}
COUNTS = {"train": {"classes": 2, "images": 5}, "test": {"classes": 2, "images": 6}}


def spread(images: int, classes: int) -> list[int]:
    """Sizes of classes that differ by one at most."""
    return [images // classes + (c < images % classes) for c in range(classes)]


FULL = {
    "cub": lambda root: write_cub(root, spread(5864, 100) + spread(5924, 100), link_pictures),
    "cars": lambda root: write_cars(root, spread(8054, 98) + spread(8131, 98), link_pictures),
    "cars_split": lambda root: write_cars_split(root, spread(8054, 98) + spread(8131, 98), link_pictures),
    "sop": lambda root: write_sop(root, spread(59551, 11318), spread(60502, 11316), link_pictures),
    "inshop": lambda root: write_inshop(
        root,
        spread(25882, 3997),
        list(zip(spread(14218, 3985), spread(12612, 3985), strict=True)),
        link_pictures,
    ),
    "grocery": lambda root: write_grocery(
        root,
        [
            sizes
            for pair in zip(
                zip(spread(1288, 41), spread(1493, 41), strict=True),
                [*zip(spread(1197, 40), spread(1443, 40), strict=True), (0, 0)],
                strict=True,
            )
            for sizes in pair
        ][:-1],
        link_pictures,
    ),
}


@pytest.fixture(params=list(SMALL))
def layout(request: pytest.FixtureRequest) -> str:
    """Each layout in which one of the benchmarks is found."""
    return str(request.param)


@pytest.fixture
def write_small() -> Callable[[str, Path], Path]:
    """Writes a layout below a place and gives the folder of the data set: 2 + 2 classes, 5 + 6 images."""
    return lambda layout, root: SMALL[layout](root)


@pytest.fixture(scope="session")
def write_full() -> dict[str, Callable[[Path], Path]]:
    """Writes a benchmark with as many classes and images as were published."""
    return FULL


@pytest.fixture
def read_small() -> Callable[..., TrainTest]:
    """Reads a small layout by the reader of its data set."""

    def read(layout: str, root: Path, **options: object) -> TrainTest:
        name = layout.split("_")[0]
        settings = {**COUNTS, "short_side": None, "cache": False, "cache_folder": str(root / "cache")}
        return READERS[name](str(root), **{**settings, **options})  # type: ignore[arg-type]

    return read
