"""The command that makes a published data set ready."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dml.commands.app import command

__all__ = ["prepare"]


@command("prepare")
def prepare(
    dataset: Annotated[str, typer.Argument(metavar="NAME", help="cub, cars, sop, inshop or grocery.")],
    archive: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What was fetched: unpacked into DIR/NAME, unless the files are there.",
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option(metavar="DIR", envvar="DML_DATA", help="Where the data sets lie.")
    ] = Path("data"),
) -> None:
    """Unpack and check a published data set, once.

    Checks the md5 where one is published, counts classes and images, opens every image once, and writes an index, so
    that the next start need not look again. An interrupted run is repeated by the same command.
    """
    from omegaconf import OmegaConf

    from dml.data.preparation import SOURCES
    from dml.data.preparation import prepare as prepare_data
    from dml.errors import ConfigError
    from dml.installation import CONFIGS
    from dml.overrides import argument, train_command

    if dataset not in SOURCES:
        raise ConfigError(
            f"{dataset} has no archives; accepted: {', '.join(SOURCES)}. Your own images need no preparation: "
            "docs/your_images.md"
        )
    config = OmegaConf.load(CONFIGS / "dataset" / f"{dataset}.yaml").dataset
    index = prepare_data(
        SOURCES[dataset],
        data,
        {"train": config.train, "test": config.test},
        archive=archive,
        report=lambda sentence: print(sentence, flush=True),
    )
    print(f"{index} written: {train_command(f'dataset={dataset}', argument('paths.data', data))}")
