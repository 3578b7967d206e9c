"""The routes of a service, and the program that they make."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, TypeVar

import yaml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import dml
from dml.errors import FileError, InputError, MissingFileError, OccupiedError, UnavailableError, UserError
from dml.service.batching import Batcher
from dml.service.catalogue import Catalogue, Picture, Query
from dml.service.guard import Guard
from dml.service.limits import Limits, TooLargeError
from dml.service.metrics import Metrics
from dml.service.reading import read_item, read_query, read_upload
from dml.service.replies import Json

__all__ = ["create_app"]

R = TypeVar("R")
STATUS: Sequence[tuple[type[UserError], int]] = (
    (TooLargeError, 413),
    (MissingFileError, 404),
    (OccupiedError, 409),
    (UnavailableError, 503),
    (FileError, 415),
    (InputError, 400),
)


def create_app(
    catalogue: Catalogue, *, limits: Limits, token: str | None = None, hosts: Sequence[str] = ()
) -> Starlette:
    """The program that answers for a catalogue; see `Guard` for token and hosts."""
    routes = _Routes(catalogue, limits)
    guard = Middleware(Guard, limits=limits, token=token, hosts=hosts, metrics=routes.metrics)
    return Starlette(
        routes=[
            Route("/", routes.page),
            Route("/search", routes.search, methods=["POST"]),
            Route("/items", routes.add, methods=["POST"]),
            Route("/items/{item}", routes.remove, methods=["DELETE"]),
            Route("/items/{item}/thumbnail", routes.thumbnail),
            Route("/labels", routes.labels),
            Route("/index", routes.index),
            Route("/health", routes.health),
            Route("/metrics", routes.measures),
            Route("/openapi.json", routes.openapi),
        ],
        middleware=[guard],
        exception_handlers={HTTPException: _said, UserError: _users_error, Exception: _defect},
        lifespan=routes.lifespan,
    )


class _Routes:
    """What is done for each route; methods named as the operations of openapi.yaml."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        from joblib import cpu_count

        self.metrics = Metrics()
        self._catalogue, self._limits = catalogue, limits
        self._page, self._policy = _read_page()
        self._openapi = _read_openapi()
        self._reading = ThreadPoolExecutor(int(cpu_count()), "reading")
        self._writing = ThreadPoolExecutor(1, "writing")  # one change at a time

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._batcher: Batcher[Query, dict[str, Any]] = Batcher(self._answer)
        answering = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            answering.cancel()
            for pool in (self._reading, self._writing):
                pool.shutdown(cancel_futures=True)
            self._catalogue.close()

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": self._policy})

    async def search(self, request: Request) -> Response:
        try:
            content, query = await read_query(request, self._limits)
            if content is not None:
                picture = await self._read(content)
                query = query._replace(square=picture.square)
        finally:
            await request.close()  # the file of the form
        return Json(_with_only_query(await self._batcher.ask(query)))

    async def add(self, request: Request) -> Response:
        try:
            content, label = await read_upload(request)
            picture = await self._read(content)
        finally:
            await request.close()
        (vector,) = await _in(self._reading, self._catalogue.embed, [picture.square])
        try:
            item, is_new = await _in(self._writing, self._catalogue.add, picture, vector, label)
        except FileError as error:
            raise HTTPException(507, str(error)) from error
        added = {"item": item.id, "path": item.path, "label": item.label, "added": is_new}
        return Json(added, 201 if is_new else 200)

    async def remove(self, request: Request) -> Response:
        await _in(self._writing, self._catalogue.remove, read_item(request))
        return Response(status_code=204)

    async def thumbnail(self, request: Request) -> Response:
        content = await _in(self._reading, self._catalogue.thumbnail, read_item(request))
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})

    async def labels(self, request: Request) -> Response:
        return Json(await _in(self._reading, self._catalogue.labels))

    async def index(self, request: Request) -> Response:
        return Json(await _in(self._reading, self._catalogue.describe))

    async def health(self, request: Request) -> Response:
        try:
            await _in(self._reading, self._catalogue.describe)
        except UserError:
            return Json({"status": "unavailable"}, 503)
        return Json({"status": "ready"})

    async def measures(self, request: Request) -> Response:
        described = await _in(self._reading, self._catalogue.describe)
        text = self.metrics.as_text(items=described["items"])
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        return Json(self._openapi)

    def _answer(self, queries: Sequence[Query]) -> Sequence[dict[str, Any] | UserError]:
        self.metrics.count_batch(len(queries))
        return self._catalogue.answer(queries)

    async def _read(self, content: Callable[[], bytes]) -> Picture:
        """The image; it is read from where it waits by the thread that decodes it."""
        return await _in(self._reading, lambda: self._catalogue.read(content()))


async def _in(pool: ThreadPoolExecutor, work: Callable[..., R], *args: Any) -> R:
    """What some work gives, done by a thread of a pool."""
    return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


def _with_only_query(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to one query has its query, match and hits at the top, too."""
    (first, *others) = answer["queries"]
    return answer if others else {**answer, **first}


async def _users_error(request: Request, error: Exception) -> Response:
    status = next(code for kind, code in STATUS if isinstance(error, kind))
    headers = {"Retry-After": "1"} if status in (409, 503) else None
    return Json({"error": str(error)}, status, headers)


async def _said(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"error": error.detail}, error.status_code, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    """What nobody expected: the server shows its traceback where it runs, and its client none."""
    return Json({"error": "a defect of the service; its log says more"}, 500)


def _read_page() -> tuple[str, str]:
    """The page, and the policy that lets nothing run in it but its own script."""
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in hashes),
        "style-src": "'unsafe-inline'",
        "img-src": "blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, "; ".join(f"{name} {value}" for name, value in policy.items())


def _read_openapi() -> dict[str, Any]:
    content = yaml.safe_load(files(__package__).joinpath("openapi.yaml").read_text(encoding="utf-8"))
    content["info"]["version"] = dml.__version__
    described: dict[str, Any] = json.loads(json.dumps(content))
    return described
