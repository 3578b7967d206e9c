"""``dml serve``: an index for other programs, and for people without one."""

from __future__ import annotations

from typing import Annotated

import typer

from dml.commands.app import Device, Trust, command
from dml.commands.indexing import Folder
from dml.commands.using import Exact, Moved
from dml.reporting.endings import needs

__all__ = ["serve"]


@command("serve")
def serve(
    index: Folder,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes one that is free.")] = 8000,
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Its content is asked of every client; needed for other machines to be let in.",
        ),
    ] = None,
    max_bytes: Annotated[int, typer.Option(help="Of a request.")] = 20 * 2**20,
    max_pixels: Annotated[int, typer.Option(help="Of an image.")] = 50_000_000,
    queue: Annotated[int, typer.Option(help="Requests at a time; others are told to come again.")] = 64,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For a request.")] = 30.0,
    exact: Exact = False,
    run: Moved = None,
    device: Device = None,
    trust: Trust = None,
) -> None:
    """Answer searches in an index over HTTP, with a page for people.

    As in: dml serve photos.index
    """
    for module in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
        needs(module, "a service", install="'dml-gsp[serve]'")
    from dml.service.limits import Limits
    from dml.service.serving import serve as answer

    limits = Limits(size=max_bytes, pixels=max_pixels, waiting=queue, seconds=timeout)
    answer(
        index,
        host=host,
        port=port,
        token_file=token_file,
        limits=limits,
        run=run,
        device=device or "auto",
        trust=trust or (),
        exact=exact,
    )
