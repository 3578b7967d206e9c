"""CIFAR-100 from files of the official format; its checksum belongs to the official content alone."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR100

from dml.data.cifar100 import read_cifar100

SUPERCLASSES = [
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
]


def write_official_format(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Two images for each of the 100 classes in train, one in test: rows of 3,072 bytes, channel after channel."""
    folder, generator, pixels = root / CIFAR100.base_folder, np.random.default_rng(0), {}
    folder.mkdir(parents=True)
    sums = {}
    for name, images in (("train", 2), ("test", 1)):
        fine = np.tile(np.arange(100), images)
        pixels[name] = generator.integers(0, 256, (len(fine), 3, 32, 32), dtype=np.uint8)
        content = {
            "data": pixels[name].reshape(-1, 3072),
            "fine_labels": fine.tolist(),
            "coarse_labels": (fine % 20).tolist(),
        }
        sums[name] = write(folder / name, content)
    names = {
        "fine_label_names": [f"fine{i}" for i in range(100)],
        "coarse_label_names": SUPERCLASSES,
    }
    sums["meta"] = write(folder / "meta", names)
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(
        CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]}
    )
    return np.concatenate([pixels["train"], pixels["test"]])


def write(path: Path, content: object) -> str:
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_images_superclasses_and_places_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_official_format(tmp_path, monkeypatch)
    read = read_cifar100(tmp_path)
    np.testing.assert_array_equal(read.images, pixels.transpose(0, 2, 3, 1))
    assert read.superclass_names == tuple(SUPERCLASSES) and len(read.superclasses) == 300
    # classes 3, 23, 43, 63 and 83 make up super-class 3
    assert [read.superclasses[i] for i in (3, 43, 203)] == [3, 3, 3]
    assert [read.subclass_ranks[i] for i in (3, 43, 83, 183, 283)] == [0, 2, 4, 4, 4]


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not hold the files of CIFAR-100.*download=True"):
        read_cifar100(tmp_path)


def test_a_damaged_file_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_official_format(tmp_path, monkeypatch)
    with (tmp_path / CIFAR100.base_folder / "train").open("ab") as file:
        file.write(b"x")
    with pytest.raises(FileNotFoundError, match="damaged"):
        read_cifar100(tmp_path)


def test_a_pickle_with_the_right_checksum_calls_nothing_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "marker"),)

    write_official_format(tmp_path, monkeypatch)
    md5 = write(tmp_path / CIFAR100.base_folder / "train", {"data": Bomb()})
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5]])
    with pytest.raises(ValueError, match=r"train names posix.mkdir, which no file of CIFAR-100 does"):
        read_cifar100(tmp_path)
    assert not (tmp_path / "marker").exists()
