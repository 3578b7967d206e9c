"""Commands that make something of a run for others: an export, which needs no dml, and a model to share, which does."""

from __future__ import annotations

from typing import Annotated

import typer

from dml.commands.app import Checkpoint, Data, Run, Trust, command
from dml.commands.indexing import Json
from dml.reporting.endings import needs

__all__ = ["export"]


@command("export")
def export(
    run: Run,
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="New, empty, or an export to replace.")],
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="onnx|torch|both", help="Both if not given; with int8, onnx."),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="fp32|fp16|int8", help="In which the backbone computes.")
    ] = "fp32",
    images: Annotated[
        int, typer.Option(metavar="N", help="About how many images the certificate is measured on.")
    ] = 1000,
    json: Json = False,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    trust: Trust = None,
) -> None:
    """Make a folder that embeds images without dml.

    As in: dml export RUN --to model

    It holds model.onnx and model.pt2, and embed.py, which needs numpy, Pillow and onnxruntime only. Before it is there
    it is measured on real images, and refused if it differs from the run.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        needs(module, "an export")
    from json import dumps

    from dml.export.exporting import export_run
    from dml.export.printing import print_certificate

    certificate = export_run(
        run,
        to,
        format=format,
        precision=precision,
        checkpoint=checkpoint,
        data=data,
        images=images,
        trust=trust or (),
    )
    if json:
        print(dumps(certificate, indent=2))
    else:
        print_certificate(to, certificate)
