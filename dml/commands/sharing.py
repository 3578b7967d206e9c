"""Commands that make something of a run for others: an export, which needs no dml, and a model to share, which does."""

from __future__ import annotations

from typing import Annotated

import typer

from dml.commands.app import Checkpoint, Data, Run, Trust, command
from dml.commands.indexing import Json
from dml.reporting.endings import needs

__all__ = ["export", "share"]


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
    for module in () if format == "torch" else ("onnx", "onnxscript", "onnxruntime"):
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


@command("share")
def share(
    run: Run,
    to: Annotated[
        str, typer.Option("--to", metavar="FOLDER|hf:USER/NAME", help="Or a model on the Hugging Face Hub.")
    ],
    licence: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Of the weights, such as cc-by-4.0; none is stated otherwise."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Let nobody else see it, if it is new on the Hub.")
    ] = False,
    checkpoint: Checkpoint = "best",
    trust: Trust = None,
) -> None:
    """Write the model of a run for others to load.

    As in: dml share RUN --to hf:me/emoji

    Weights as safetensors, configuration, preprocessing and a page with figures, data and licences. dml.load_model
    takes it by the same name. Paths of this machine are left out; look at the page before it is public.
    """
    needs("huggingface_hub", "the page of a shared model")
    from dml.export.sharing import share_run

    place = share_run(run, to, checkpoint=checkpoint, licence=licence, private=private, trust=trust or ())
    print(f"{place}: shared; others load it by dml.load_model({to!r})")
