"""CIFAR-100 with its super-classes, from the files that torchvision downloads and checks."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import CIFAR100

__all__ = ["Cifar100", "read_cifar100"]


@dataclass(frozen=True, eq=False)
class Cifar100:
    """All 60,000 images, those of the official training file first.

    images:           (60000, 32, 32, 3) uint8, RGB.
    superclasses:     (60000,) int64, index into superclass_names.
    superclass_names: 20 names.
    subclass_ranks:   (60000,) int64 from 0 to 4: the place of the class among those of its super-class.
    """

    images: NDArray[np.uint8]
    superclasses: NDArray[np.int64]
    superclass_names: tuple[str, ...]
    subclass_ranks: NDArray[np.int64]


def read_cifar100(root: str | Path) -> Cifar100:
    """Read both files into memory, after torchvision has compared their checksums.

    Raises:
        FileNotFoundError: the files are not there, or are not the official ones.
    """
    try:
        halves = [CIFAR100(str(root), train=train) for train in (True, False)]
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{root} does not hold the files of CIFAR-100 (cifar-100-python/train, test and meta), or they are "
            f"damaged: fetch them by torchvision.datasets.CIFAR100({str(root)!r}, download=True); "
            "dataset=collage_cifar100 looks for them in data/cifar100"
        ) from error
    folder = Path(root) / CIFAR100.base_folder
    coarse = np.concatenate([_load(folder / name)["coarse_labels"] for name in ("train", "test")]).astype(
        np.int64
    )
    fine = np.concatenate([half.targets for half in halves])
    return Cifar100(
        images=np.concatenate([half.data for half in halves]),
        superclasses=coarse,
        superclass_names=tuple(_load(folder / "meta")["coarse_label_names"]),
        subclass_ranks=_ranks(fine, coarse),
    )


def _load(path: Path) -> dict[str, Any]:
    with path.open(
        "rb"
    ) as file:  # a pickle, but one whose checksum has just been found to be the official one
        content: dict[str, Any] = pickle.load(file, encoding="latin1")
    return content


def _ranks(fine: NDArray[np.int64], coarse: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each image's class among the classes of its super-class."""
    rank_of = np.zeros(int(fine.max()) + 1, dtype=np.int64)
    for superclass in np.unique(coarse):
        members = np.unique(fine[coarse == superclass])
        rank_of[members] = np.arange(len(members))
    ranks: NDArray[np.int64] = rank_of[fine]
    return ranks
