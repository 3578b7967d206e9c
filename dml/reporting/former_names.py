"""What rows and tables were called before they became products: commands are told the new name, runs are found."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dml.config import ConfigError

__all__ = ["former_row", "refuse_former_names"]

LOSSES = {"c2": "contrastive"}
POOLINGS = {
    "gap": ("gap", "gap_max"),
    "gsp_zero_shot": ("gsp", "gsp_max", "gsp_gem"),
}
SETS = ("cub", "cars", "sop", "inshop")
EXPERIMENT = re.compile(
    rf"({'|'.join(SETS)})/(mlrc|conventional_bn_inception|conventional_resnet50)/(\w+?)(_xbm)?_(gap|gsp_zero_shot)"
)


def former_row(parts: Sequence[str]) -> str:
    """The folder that the runs of a row formerly lay in, by its loss, what stands beside it, and its pooling."""
    loss, *beside, pooling = parts
    loss = next((old for old, new in LOSSES.items() if new == loss), loss)
    pooling = next((old for old, new in POOLINGS.items() if pooling in new), pooling)
    return "_".join([loss, *beside, pooling])


def refuse_former_names(arguments: Sequence[str]) -> None:
    """Refuse arguments of train.py that name a row or a loss as it was formerly called.

    Raises:
        ConfigError: it says what to type instead.
    """
    for argument in arguments:
        key, _, values = argument.partition("=")
        for value in values.split(","):
            if key == "loss" and value in LOSSES:
                raise ConfigError(f"loss={value} is called {LOSSES[value]} here: type loss={LOSSES[value]}")
            if key == "experiment" and (found := EXPERIMENT.fullmatch(value)):
                raise ConfigError(f"experiment={value} is a product now: type {_command(*found.groups())}")


def _command(dataset: str, setting: str, loss: str, memory: str | None, pooling: str) -> str:
    return " ".join(
        [
            f"published={setting}",
            f"dataset={dataset}",
            f"loss={LOSSES.get(loss, loss)}",
            f"pooling={_pooling(dataset, setting, pooling)}",
            *(["memory=xbm"] if memory else []),
        ]
    )


def _pooling(dataset: str, setting: str, pooling: str) -> str:
    """The former names hid that the conventional protocol pools by maximum or GeM too."""
    plain, with_max, *with_gem = POOLINGS[pooling]
    if setting == "mlrc":
        return plain
    gem = with_gem and setting == "conventional_resnet50" and dataset in ("cub", "cars")
    return with_gem[0] if gem else with_max
