"""What stands before every request: who may ask, how much, how many at a time, and for how long."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dml.service.limits import Limits
from dml.service.metrics import Metrics
from dml.service.replies import Json

__all__ = ["Guard"]

OPEN = ("/", "/health", "/openapi.json")  # they tell nothing of the index, and need no token
UNCOUNTED = ("/health", "/metrics")  # answered also when the queue is full
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses what must not reach the routes.

    Args:
        token: without which nothing but the page and the state of health is given; None asks for none.
        hosts: names by which the service may be called; empty for any. A web site that points a name of its own to
            this machine calls it by that name, and gets no answer.
    """

    def __init__(
        self, app: ASGIApp, *, limits: Limits, token: str | None, hosts: Sequence[str], metrics: Metrics
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._token, self._hosts = token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        exchange = _Exchange(receive, send, self._limits.size)
        begin = time.monotonic()
        counted = scope["path"] not in UNCOUNTED
        refusal = self._refusal(scope, full=counted and self._metrics.waiting >= self._limits.waiting)
        counted = counted and refusal is None
        self._metrics.waiting += counted
        try:
            await (
                self._answer(scope, exchange) if refusal is None else refusal(scope, receive, exchange.send)
            )
        finally:
            self._metrics.waiting -= counted
            self._metrics.count(scope, exchange.status or 500, time.monotonic() - begin)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        answering = self._app(scope, exchange.receive, exchange.send)
        try:
            await asyncio.wait_for(answering, self._limits.seconds)
        except asyncio.TimeoutError:  # another class before Python 3.11
            if exchange.status:
                return
            late = f"there was no answer within {self._limits.seconds:g} seconds: come again later"
            slow = f"the request did not arrive within {self._limits.seconds:g} seconds: send it faster"
            response = _refuse(503, late) if exchange.complete else _refuse(408, slow)
            await response(scope, exchange.receive, exchange.send)

    def _refusal(self, scope: Scope, *, full: bool) -> Json | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts and _name(host) not in self._hosts:
            return _refuse(
                421, f"this service is not called {host!r}: call it {' or '.join(sorted(self._hosts))}"
            )
        if origin is not None and origin.partition("://")[2] != host:
            return _refuse(
                403, f"pages of {origin} may not ask this service: ask from its own page, or a program"
            )
        if not self._is_allowed(scope["path"], headers):
            return _refuse(401, "the token is missing or wrong: send the header Authorization: Bearer TOKEN")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.size:
            return _refuse(413, _too_large(length, self._limits.size))
        if full:
            return _refuse(
                503, f"{self._limits.waiting} requests are being answered already: come again later"
            )
        return None

    def _is_allowed(self, path: str, headers: Headers) -> bool:
        if self._token is None or path in OPEN:
            return True
        given = headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())


class _Exchange:
    """A request as it comes in, up to so many bytes, and the status of what goes out; 0 before."""

    def __init__(self, receive: Receive, send: Send, size: int) -> None:
        self._receive, self._send, self._size = receive, send, size
        self._taken = 0
        self.complete = False
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self._taken > self._size:
                raise HTTPException(413, _too_large(f"more than {self._size:,}", self._size))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = Headers(raw=message["headers"])
            more = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items() if k not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)


def _refuse(status: int, reason: str) -> Json:
    headers: dict[str, Any] = {"Connection": "close"}  # what is left of the request is not read
    if status == 503:
        headers["Retry-After"] = "1"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Json({"error": reason}, status, headers)


def _too_large(length: str, most: int) -> str:
    return f"the request has {length} bytes, and this service takes {most:,}: send a smaller image, or fewer vectors"


def _name(host: str) -> str:
    """Of ``name:port`` the name; an address of version 6 keeps its brackets."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host
