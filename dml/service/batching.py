"""Queries of several clients, answered together: what has come in while a batch was answered is the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from dml.errors import UserError

__all__ = ["Batcher"]

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """One thread that answers queries, as many at a time as wait for it; nobody is kept waiting to fill a batch.

    Args:
        work: queries -> an answer for each, or the error of the one that asked.
        most: queries at a time.
    """

    def __init__(self, work: Callable[[Sequence[Q]], Sequence[A | UserError]], *, most: int = 64) -> None:
        self._work, self._most = work, most
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "answering")

    async def ask(self, query: Q) -> A:
        """The answer to a query, when its batch is done; whoever no longer waits is left out of it."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        self._wake.set()
        return await future

    async def run(self) -> None:
        """Answer until it is cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._answer(self._next())
        finally:
            self._thread.shutdown(wait=False)

    def _next(self) -> list[tuple[Q, asyncio.Future[A]]]:
        batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        return [(query, future) for query, future in batch if not future.done()]

    async def _answer(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        if not batch:
            return
        queries = [query for query, _ in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._work, queries)
        except Exception as error:  # a defect: each of them is told, and the next batch is answered
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, UserError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
