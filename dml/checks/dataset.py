"""What a data set promises."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np

from dml.assembly import read_data
from dml.checks.attempt import Attempt
from dml.config import TrainConfig, build
from dml.data import Records, TrainTest

__all__ = ["attempts"]

LOOKED_AT = 8  # images of each half


def attempts(cfg: TrainConfig) -> Iterator[Attempt]:
    tests = _Tests(cfg)
    yield Attempt("is a data set: dml.TrainTest of two dml.Records", tests.is_one, vital=True)
    yield Attempt("no class trains and tests", tests.disjoint)
    yield Attempt("labels count the classes, each of which has an image", tests.labels, vital=True)
    yield Attempt("images are (H, W, 3) uint8, and always the same", tests.images, vital=True)
    yield Attempt("the transforms of the configuration take them", tests.transforms)
    yield Attempt("processes that load images can be given them", tests.pickled)
    yield Attempt("it is read the same twice", tests.again)


class _Tests:
    def __init__(self, cfg: TrainConfig) -> None:
        self.cfg = cfg
        self.read: TrainTest | None = None

    def halves(self) -> Iterator[tuple[str, Records]]:
        if self.read is None:
            self.read = read_data(self.cfg.dataset)
        yield from zip(("train", "test"), self.read, strict=True)

    def is_one(self) -> str | None:
        empty = [name for name, half in self.halves() if not len(half)]
        return f"the {empty[0]} half has no image" if empty else None

    def disjoint(self) -> str | None:
        train, test = (set(half.class_names) for _, half in self.halves())
        return f"{sorted(train & test)[0]!r} is in both halves: split by class" if train & test else None

    def labels(self) -> str | None:
        for name, half in self.halves():
            if half.labels.dtype != np.int64 or half.rows.dtype != np.int64:
                return f"labels and rows of the {name} half are {half.labels.dtype} and {half.rows.dtype}: give int64"
            if set(half.labels.tolist()) != set(range(half.num_classes)):
                return (
                    f"the {name} half has {len(set(half.labels.tolist()))} labels, {half.labels.min()} to "
                    f"{half.labels.max()}, and {half.num_classes} class_names: give 0 to {half.num_classes - 1}, each "
                    "once or more"
                )
        return None

    def images(self) -> str | None:
        for name, half in self.halves():
            for index in self._some(half):
                image = half.image(index)
                if (
                    not isinstance(image, np.ndarray)
                    or image.dtype != np.uint8
                    or image.ndim != 3
                    or image.shape[2] != 3
                ):
                    shown = (
                        f"{image.dtype} {image.shape}"
                        if isinstance(image, np.ndarray)
                        else type(image).__name__
                    )
                    return f"image {index} of the {name} half is {shown}: give uint8 (H, W, 3)"
                if not np.array_equal(image, half.image(index)):
                    return f"image {index} of the {name} half is another one the second time: draw in draw(), not here"
        return None

    def transforms(self) -> str | None:
        size = self.cfg.transform.size
        evaluate = build(self.cfg.transform.evaluation)
        for name, half in self.halves():
            shapes = {tuple(evaluate(half.image(index)).shape) for index in self._some(half)}
            if shapes != {(3, size, size)}:
                return f"images of the {name} half become {sorted(shapes)}: (3, {size}, {size}) is expected"
        return None

    def pickled(self) -> str | None:
        for name, half in self.halves():
            index = self._some(half)[0]
            again = pickle.loads(pickle.dumps(half.images))
            if not np.array_equal(again[int(half.rows[index])], half.image(index)):
                return f"image {index} of the {name} half is another one in another process"
        return None

    def again(self) -> str | None:
        for (name, half), other in zip(self.halves(), read_data(self.cfg.dataset), strict=True):
            if half.class_names != other.class_names or half.files != other.files:
                return f"classes or files of the {name} half come in another order: sort them"
        return None

    def _some(self, half: Records) -> list[int]:
        count = min(LOOKED_AT, len(half))
        return [i * len(half) // count for i in range(count)]
