"""CUB-200-2011 (Wah et al. 2011): photographs of birds, 200 species.

The first half of the species trains, the second tests.

    images.txt                image_id path
    image_class_labels.txt    image_id class_id
    images/001.Name/file.jpg

train_test_split.txt is left alone: it splits the images of every class, so it would test on classes seen in training.
"""

from __future__ import annotations

from pathlib import Path

from dml.data.annotations import IMAGE, NUMBER, Annotations, Row, first_few, read_lines, refuse_repeated
from dml.data.published_sets import PublishedSet
from dml.errors import InputError

__all__ = ["cub"]


def _read(folder: Path, anchor: str, train_classes: int) -> Annotations:
    images, labels = folder / "images.txt", folder / anchor
    files = list(read_lines(images, {"image_id": NUMBER, "path": IMAGE}))
    pairs = list(read_lines(labels, {"image_id": NUMBER, "class_id": NUMBER}))
    refuse_repeated([image for image, _ in files], f"the first column of {images}")
    class_of = {image: int(number) for image, number in pairs}
    if unlabelled := [file for image, file in files if image not in class_of]:
        raise InputError(
            f"{labels} has no class for {len(unlabelled)} images of images.txt, {first_few(unlabelled)}: it was cut "
            "off; restore it from the archive"
        )
    rows = [
        Row(f"images/{file}", file.split("/")[0], "train" if class_of[image] <= train_classes else "test")
        for image, file in files
    ]
    return Annotations(folder, rows, (images, labels))


cub = PublishedSet("cub", ("image_class_labels.txt",), _read)
