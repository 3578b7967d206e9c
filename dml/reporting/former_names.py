"""What rows and tables were called before they became products: commands are told the new name, runs are found."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dml.config import ConfigError
from dml.migrations import RENAMED

__all__ = ["former_row", "refuse_former_names"]

LOSSES = {"c2": "contrastive"}
POOLINGS = {"gap": ("gap", "gap_max"), "gsp_zero_shot": ("gsp", "gsp_max", "gsp_gem")}
SETS = ("cub", "cars", "sop", "inshop")
SETTINGS = ("mlrc", "conventional_bn_inception", "conventional_resnet50")
EXPERIMENT = re.compile(rf"({'|'.join(SETS)})/({'|'.join(SETTINGS)})/(\w+?)(_xbm)?_({'|'.join(POOLINGS)})")


def former_row(dataset: str, setting: str, loss: Sequence[str], pooling: Sequence[str]) -> str | None:
    """The folder that the runs of a row lay in when it was a file; None if it was not.

    loss, pooling: the choice, and what stands behind it.
    """
    if dataset not in SETS or setting not in SETTINGS or loss[1:] not in ([], ["memory=xbm"]):
        return None
    word = next((old for old, new in LOSSES.items() if new == loss[0]), loss[0])
    found = [old for old in POOLINGS if list(pooling) == [_pooling(dataset, setting, old)]]
    return f"{word}{'_xbm' * (len(loss) - 1)}_{found[0]}" if found else None


def refuse_former_names(arguments: Sequence[str]) -> None:
    """Refuse arguments of ``dml train`` that name a row, a loss or a key as it was formerly called.

    Raises:
        ConfigError: it says what to type instead.
    """
    for argument in arguments:
        key, _, values = argument.partition("=")
        if (name := key.lstrip("+~")) in RENAMED:
            raise ConfigError(f"{name} is called {RENAMED[name]} here: type {RENAMED[name]}={values}")
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
