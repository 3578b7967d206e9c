"""CIFAR-100 with its super-classes, from the files that torchvision downloads and checks."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dml.errors import InputError, MissingFileError

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
    """Read both files into memory, after their checksums were compared with the published ones.

    Raises:
        MissingFileError: the files are not there, or are not the official ones.
    """
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import check_integrity

    folder = Path(root) / CIFAR100.base_folder
    listed = [*CIFAR100.train_list, *CIFAR100.test_list, [CIFAR100.meta["filename"], CIFAR100.meta["md5"]]]
    if not all(check_integrity(str(folder / name), md5) for name, md5 in listed):
        raise MissingFileError(
            f"{root} does not hold the files of CIFAR-100 (cifar-100-python/train, test and meta), or they are "
            f"damaged: fetch them by torchvision.datasets.CIFAR100({str(root)!r}, download=True); "
            "dataset=collage_cifar100 looks for them in data/cifar100"
        )
    halves = [_load(folder / name) for name in ("train", "test")]
    coarse = np.concatenate([half["coarse_labels"] for half in halves]).astype(np.int64)
    fine = np.concatenate([half["fine_labels"] for half in halves])
    pixels = np.concatenate([half["data"] for half in halves]).reshape(-1, 3, 32, 32)
    return Cifar100(
        images=np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)),
        superclasses=coarse,
        superclass_names=tuple(_load(folder / "meta")["coarse_label_names"]),
        subclass_ranks=_ranks(fine, coarse),
    )


class _Plain(pickle.Unpickler):
    """Of all that a pickle may call, the three names that an array is made of."""

    ALLOWED: ClassVar[dict[str, Any]] = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "ndarray": np.ndarray,
        "dtype": np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in self.ALLOWED:
            return self.ALLOWED[name]
        raise pickle.UnpicklingError(f"{module}.{name}")


def _load(path: Path) -> dict[str, Any]:
    """Plain values and arrays from a file of the official format, which is a pickle.

    Raises:
        InputError: it holds anything else; nothing of it was called.
    """
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = _Plain(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise InputError(
            f"{path} names {error}, which no file of CIFAR-100 does, and was not read on: it was tampered with; fetch "
            "it from another place"
        ) from error
    return content


def _ranks(fine: NDArray[np.int64], coarse: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each image's class among the classes of its super-class."""
    rank_of = np.zeros(int(fine.max()) + 1, dtype=np.int64)
    for superclass in np.unique(coarse):
        members = np.unique(fine[coarse == superclass])
        rank_of[members] = np.arange(len(members))
    ranks: NDArray[np.int64] = rank_of[fine]
    return ranks
