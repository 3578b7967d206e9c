"""Which images make up the batch of a step: a pure function of (seed, step)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dml.errors import InputError
from dml.randomness import numpy_generator

__all__ = ["ClassBalancedSampler", "Sampler", "UniformSampler"]


class Sampler(Protocol):
    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices of the images of a step, (batch,)."""


class ClassBalancedSampler:
    """Some classes in a batch, and some images of each.

    Every pass over the classes takes them in a new random order, each at most once; those left over at the end of
    a pass, fewer than a batch, sit it out. Images of a class are drawn without replacement; a class with fewer
    images than asked for repeats some.

    Args:
        labels: (n,) int64 class of each image.
        classes_per_batch, images_per_class: the shape of a batch.
        seed: the seed of the run.

    Raises:
        InputError: a number below 1, or more classes per batch than there are.
    """

    def __init__(
        self, labels: NDArray[np.int64], *, classes_per_batch: int, images_per_class: int, seed: int
    ) -> None:
        num_classes = int(labels.max()) + 1 if len(labels) else 0
        if images_per_class < 1:
            raise InputError(f"sampler.images_per_class={images_per_class}: give at least 1")
        if not 1 <= classes_per_batch <= num_classes:
            raise InputError(
                f"sampler.classes_per_batch={classes_per_batch}, but the training set has {num_classes} classes: "
                f"give a number between 1 and {num_classes}"
            )
        order = np.argsort(labels, kind="stable")
        self._images_of = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        self._classes_per_batch = classes_per_batch
        self._images_per_class = images_per_class
        self._seed = seed

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices of the images of a step, (classes_per_batch · images_per_class,), class after class."""
        pass_index, place = divmod(step, len(self._images_of) // self._classes_per_batch)
        order = numpy_generator(self._seed, "classes", pass_index).permutation(len(self._images_of))
        classes = order[place * self._classes_per_batch : (place + 1) * self._classes_per_batch]
        generator = numpy_generator(self._seed, "images", step)
        return np.concatenate([self._draw(self._images_of[c], generator) for c in classes])

    def _draw(self, images: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        rounds = -(-self._images_per_class // len(images))
        drawn = np.concatenate([generator.permutation(images) for _ in range(rounds)])
        return drawn[: self._images_per_class]


class UniformSampler:
    """Images in a new random order at every pass, whatever their class.

    Raises:
        InputError: the batch is empty or larger than the training set.
    """

    def __init__(self, labels: NDArray[np.int64], *, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= len(labels):
            raise InputError(
                f"sampler.batch_size={batch_size}, but the training set has {len(labels)} images: "
                f"give a number between 1 and {len(labels)}"
            )
        self._count, self._batch_size, self._seed = len(labels), batch_size, seed

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices of the images of a step, (batch_size,)."""
        pass_index, place = divmod(step, self._count // self._batch_size)
        order = numpy_generator(self._seed, "images", pass_index).permutation(self._count)
        return order[place * self._batch_size : (place + 1) * self._batch_size]
