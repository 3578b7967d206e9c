"""From records to batches. The number of workers changes the speed, never a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dml.data.records import ImageStore, Records, draw_image
from dml.data.samplers import Sampler
from dml.distributed import share
from dml.errors import FileError
from dml.randomness import numpy_generator
from dml.signals import obey_main_process_alone, signals_held_back
from dml.types import Batch

__all__ = ["evaluation_batches", "training_batches"]

RandomTransform = Callable[[NDArray[np.uint8], np.random.Generator], Tensor]
FixedTransform = Callable[[NDArray[np.uint8]], Tensor]


class _Request(NamedTuple):
    """One image of a set. It brings what there is to know of it, so that workers get the images and no records."""

    number: int  # in the set
    row: int  # in the store of images
    label: int
    step: int = 0  # of training, and the place in its batch: what the augmentation depends on
    position: int = 0


class _TrainingImages(Dataset[tuple[Tensor, int, int]]):
    def __init__(self, images: ImageStore, transform: RandomTransform, seed: int) -> None:
        self._images, self._transform, self._seed = images, transform, seed

    def __getitem__(self, request: _Request) -> tuple[Tensor, int, int]:
        generator = numpy_generator(self._seed, "augmentation", request.step, request.position)
        image = self._transform(draw_image(self._images, request.row, generator), generator)
        return image, request.label, request.number


class _EvaluationImages(Dataset[tuple[Tensor, int, int]]):
    def __init__(self, images: ImageStore, transform: FixedTransform) -> None:
        self._images, self._transform = images, transform

    def __getitem__(self, request: _Request) -> tuple[Tensor, int, int]:
        return self._transform(self._images[request.row]), request.label, request.number


class _StepRequests:
    """The batches of the steps from start to stop, as lists of requests: the share of this process."""

    def __init__(self, records: Records, sampler: Sampler, start: int, stop: int) -> None:
        self._records, self._sampler, self._steps = records, sampler, range(start, stop)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[_Request]]:
        for step in self._steps:
            batch = self._sampler.batch(step)
            own = range(len(batch))[share(len(batch))]
            yield [_request(self._records, int(batch[i]))._replace(step=step, position=i) for i in own]


class _EachOnce:
    """Requests for a part of a set, in its order."""

    def __init__(self, records: Records, part: range) -> None:
        self._records, self._part = records, part

    def __len__(self) -> int:
        return len(self._part)

    def __iter__(self) -> Iterator[_Request]:
        return (_request(self._records, number) for number in self._part)


def _request(records: Records, number: int) -> _Request:
    return _Request(number, int(records.rows[number]), int(records.labels[number]))


def training_batches(
    records: Records,
    transform: RandomTransform,
    sampler: Sampler,
    *,
    seed: int,
    start: int,
    stop: int,
    num_workers: int,
) -> Iterator[Batch]:
    """The batches of the steps ``start .. stop - 1``; that of step t depends on (seed, t) alone.

    With several processes each gets its share of every batch.
    """
    dataset = _TrainingImages(records.images, transform, seed)
    requests = _StepRequests(records, sampler, start, stop)
    return _in_one_sentence(_loader(dataset, min(num_workers, len(requests)), batch_sampler=requests))


def evaluation_batches(
    records: Records, transform: FixedTransform, *, batch_size: int, num_workers: int
) -> Iterator[Batch]:
    """All images of a set once, in its order; with several processes, the share of this one."""
    own = range(*share(len(records)).indices(len(records)))
    dataset = _EvaluationImages(records.images, transform)
    requests = _EachOnce(records, own)
    num_workers = min(num_workers, math.ceil(len(own) / batch_size))  # more would start for nothing
    return _in_one_sentence(_loader(dataset, num_workers, batch_size=batch_size, sampler=requests))


def _in_one_sentence(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """The batches; of an image that a worker could not read, its error without the worker's traceback before it."""
    try:
        with signals_held_back():
            batches = iter(loader)
        yield from batches
    except OSError as error:
        raise FileError(str(error).strip().splitlines()[-1].removeprefix("dml.errors.FileError: ")) from error


def _loader(dataset: Dataset[Any], num_workers: int, **batching: Any) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_initialized(),  # type: ignore[no-untyped-call]  # a GPU that is there may be left alone
        worker_init_fn=obey_main_process_alone,
        generator=torch.Generator().manual_seed(0),  # else the loader draws from the global generator
        **batching,
    )


def _collate(items: list[tuple[Tensor, int, int]]) -> Batch:
    images, labels, indices = zip(*items, strict=True)
    return Batch(torch.stack(images), torch.tensor(labels), torch.tensor(indices))
