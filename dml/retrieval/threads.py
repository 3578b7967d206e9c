"""Pieces of work on the CPU, each in a thread of its own: many small steps that torch's threads would wait in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["in_threads", "one_thread"]

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread on the CPU: in small blocks its threads would only wait, and hinder faiss'."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def in_threads(work: Callable[[T], R], parts: Iterable[T], device: torch.device) -> Iterator[R]:
    """The results of the parts in their order, as many at a time as torch has threads; on a GPU one by one."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from map(work, parts)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, parts)
    finally:
        torch.set_num_threads(threads)  # threads that are made later take over what was set last
