"""Unpack and check a published data set, once: python scripts/prepare_data.py dataset=cub archive=CUB_200_2011.tgz

dataset=NAME      cub, cars, sop, inshop or grocery
archive=FILE      what was fetched: unpacked into DIR/NAME; left out if the files are there already
data=DIR          where the data sets lie; the variable DML_DATA, or data, if not given

Checks the md5 where one is published, counts classes and images, opens every image once, and writes an index, so that
the next start need not look again. An interrupted run is repeated by the same command.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING, OmegaConf

from dml.config import ConfigError, parse_arguments
from dml.data.preparation import SOURCES, prepare
from dml.overrides import argument, train_command
from dml.reporting import readable_errors

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "dataset"


@dataclass
class Arguments:
    dataset: str = MISSING
    archive: str | None = None
    data: str = os.environ.get("DML_DATA", "data")


@readable_errors
def main() -> None:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    arguments = parse_arguments(Arguments, sys.argv[1:])
    if arguments.dataset not in SOURCES:
        raise ConfigError(
            f"dataset={arguments.dataset} has no archives; accepted: {', '.join(SOURCES)}. Your own images need no "
            "preparation: docs/your_images.md"
        )
    config = OmegaConf.load(CONFIGS / f"{arguments.dataset}.yaml").dataset
    index = prepare(
        SOURCES[arguments.dataset],
        Path(arguments.data),
        {"train": config.train, "test": config.test},
        archive=Path(arguments.archive) if arguments.archive else None,
        report=lambda sentence: print(sentence, flush=True),
    )
    command = train_command(f"dataset={arguments.dataset}", argument("paths.data", arguments.data))
    print(f"{index} written: {command}")


if __name__ == "__main__":
    main()
