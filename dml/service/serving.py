"""From a folder and a port to a service that answers."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import uvicorn

from dml.errors import FileError, InputError, OccupiedError, user_files
from dml.index.index import open_index
from dml.index.printing import how_exact
from dml.service.app import create_app
from dml.service.catalogue import Catalogue
from dml.service.limits import Limits

__all__ = ["serve"]

SHORTEST_TOKEN = 16  # characters


def serve(
    folder: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    run: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    trust: Sequence[str] = (),
    exact: bool = False,
) -> None:
    """Answer for an index until the process is interrupted or told to end.

    Args:
        folder: of the index.
        host, port: where to listen; port 0 is one that is free, which is printed.
        token_file: a file that holds what clients have to know, on one line.
        run, device, trust, exact: as in `open_index`.

    Raises:
        InputError: others than this machine could ask, and there is no token; or it is too short.
        OccupiedError: the port is in use.
        FileError: the system lets nobody listen there.
        MissingFileError, InputError: as `open_index`, and as `Index.model`.
    """
    token = None if token_file is None else read_token(token_file)
    limits = limits or Limits()
    with listening(host, port) as (listener, is_loopback):
        if token is None and not is_loopback:
            raise InputError(
                f"others than this machine can reach {host}, and would need no token: give one by --token-file FILE, "
                "or listen on 127.0.0.1"
            )
        index = open_index(folder, run=run, device=device, trust=trust, exact=exact)
        app = create_app(
            Catalogue(index, pixels=limits.pixels),
            limits=limits,
            token=token,
            hosts=() if token else ("127.0.0.1", "[::1]", "localhost", host),
        )
        for line in how_exact(index, index.calibration):
            print(line)
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listener.getsockname()[1]}/ answers; Ctrl-C ends it", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none")
        with contextlib.suppress(KeyboardInterrupt):  # by which somebody has ended it, in peace
            uvicorn.Server(config).run(sockets=[listener])


def read_token(path: str | os.PathLike[str]) -> str:
    """What a file holds, without the white space around it.

    Raises:
        FileError: it cannot be read.
        InputError: it holds several words, characters that no header holds, or too few to be a secret.
    """
    with user_files(f"reading {path}"):
        content = Path(path).read_bytes()
    token = content.decode("ascii", "replace").strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{path} holds no token of at least {SHORTEST_TOKEN} letters, digits and signs without spaces: make one by "
            '`python -c "import secrets; print(secrets.token_urlsafe())"`'
        )
    return token


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, bool]]:
    """A socket that is bound, and whether only this machine can reach it.

    Raises:
        InputError: the host is none of this machine, or the port no number of one.
        OccupiedError: the port is in use.
        FileError: the system refuses it.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"port {port}: give a number from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"host {host!r} is not known ({error}): give 127.0.0.1, or an address of this machine"
        ) from error
    # with its protocol, without which asyncio lets small packets wait for 40 ms
    with socket.socket(family, kind, protocol) as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OccupiedError(f"port {port} of {host} is in use: give another one by --port") from error
            if error.errno == errno.EADDRNOTAVAIL:
                raise InputError(
                    f"host {host!r} is no address of this machine: give 127.0.0.1, or one that is"
                ) from error
            raise FileError(f"port {port} of {host}: {error.strerror}; give another one by --port") from error
        yield listener, ipaddress.ip_address(address[0]).is_loopback
