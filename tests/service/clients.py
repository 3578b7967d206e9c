"""A service that answers in a thread of the test, and who asks it."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from dml.index.index import open_index
from dml.service.app import create_app
from dml.service.catalogue import Catalogue
from dml.service.limits import Limits


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


class Client(NamedTuple):
    """Asks the service at a port; each call has a connection of its own."""

    port: int
    catalogue: Catalogue

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(
                response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
            )
        finally:
            connection.close()

    def send(self, path: str, values: object) -> Reply:
        return self.ask("POST", path, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def upload(self, path: str, content: bytes | None, name: str = "a.png", **fields: object) -> Reply:
        body, kind = form(content, name, **fields)
        return self.ask("POST", path, body, {"Content-Type": kind})


def form(content: bytes | None, name: str = "a.png", **fields: object) -> tuple[bytes, str]:
    """The body of a form, and its type."""
    border = secrets.token_hex(8)
    start = f'--{border}\r\nContent-Disposition: form-data; name="'
    parts = [f'{start}{key}"\r\n\r\n{value}\r\n'.encode() for key, value in fields.items()]
    if content is not None:
        parts.append(f'{start}file"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n")
    return b"".join([*parts, f"--{border}--\r\n".encode()]), f"multipart/form-data; boundary={border}"


@contextmanager
def answering(
    folder: Path, *, limits: Limits | None = None, token: str | None = None, hosts: Sequence[str] = ()
) -> Iterator[Client]:
    limits = limits or Limits()
    catalogue = Catalogue(open_index(folder), pixels=limits.pixels)
    app = create_app(catalogue, limits=limits, token=token, hosts=hosts)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            yield Client(listener.getsockname()[1], catalogue)
        finally:
            server.should_exit = True
            thread.join()
