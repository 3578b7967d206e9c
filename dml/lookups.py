"""Tables inside of YAML: a value for each data set, or for each kind of loss.

    num_prototypes: '${by_dataset:{cub: 64, cars: 64, sop: 128, inshop: 128, other: 64}}'
    sharpness: '${by_kind:{pairs: 5.0, proxies: 0.5}}'

In a defaults list, where names are chosen before there are values, the choice comes first:

    - override /sampler: '${by_kind:${loss},{pairs: 8x4, proxies: 32x1}}'

And the name of a folder, which no text can be as it is:

    subdir: ${hydra.job.num}_${folder_name:${hydra.job.override_dirname}}

And the step whose weights a finished run kept:

    max_steps: ${kept_step:runs/chosen}
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf

from dml.errors import InputError, MissingFileError

__all__ = ["register_lookups"]

LONGEST = 200  # bytes of a name; file systems take 255, and something comes before it
NO_NAME = re.compile(r"[/\\\x00-\x1f]")  # what parts folders, and what cannot be seen


def register_lookups() -> None:
    """Make ``by_dataset``, ``by_kind``, ``kept_step`` and ``folder_name`` known to OmegaConf.

    ``by_dataset`` takes the value under the name of the data set, or else under ``other``. ``by_kind`` takes that under
    ``proxies`` for a loss that learns something for each class, and else that under ``pairs``.
    ``folder_name`` gives a text without slashes, and of a long one its beginning and a hash of all.
    """
    OmegaConf.register_new_resolver("by_dataset", _by_dataset, replace=True)
    OmegaConf.register_new_resolver("by_kind", _by_kind, replace=True)
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    OmegaConf.register_new_resolver("kept_step", _kept_step, replace=True)


def _by_dataset(*arguments: Any, _root_: DictConfig) -> Any:
    *chosen, table = arguments
    name = chosen[0] if chosen else str(_root_.dataset._target_).removeprefix("dml.data.")
    if name not in table and "other" not in table:
        raise InputError(
            f"dataset={name} has no value among {', '.join(table)}: give one for it, or for other"
        )
    return table[name] if name in table else table["other"]


def _by_kind(*arguments: Any, _root_: DictConfig) -> Any:
    *chosen, table = arguments
    return table["proxies" if _has_proxies(chosen[0] if chosen else _root_.loss) else "pairs"]


def _kept_step(folder: str) -> int:
    path = Path(folder) / "metrics.json"
    if not path.is_file():
        raise MissingFileError(
            f"protocol.run={folder} is no finished run, there is no {path}: train one on a split first, with the same "
            "choices, and name its folder"
        )
    step = json.loads(path.read_text(encoding="utf-8")).get("step")
    if not step:
        why = (
            "kept the untrained model"
            if step == 0
            else "is of a version that did not write which step it kept"
        )
        raise InputError(f"protocol.run={folder} {why}: name another run, or say trainer.max_steps yourself")
    return int(step)


def _has_proxies(loss: str | DictConfig) -> bool:
    """Whether a loss, or the one that is chosen by this name, learns something for each class."""
    values = _chosen_loss(loss) if isinstance(loss, str) else loss
    return "num_classes" in values.keys()  # noqa: SIM118  a value that is still open (???) counts too


def _chosen_loss(name: str) -> DictConfig:
    """What its file says, with its defaults, wherever Hydra finds it for ``loss=``; an empty one if there is none.

    Hydra refuses such a name by itself, and says which there are.
    """
    try:
        composed = hydra.compose(f"loss/{name}")
    except MissingConfigException:
        return OmegaConf.create()
    loss: DictConfig = composed.loss if "loss" in composed else composed
    return loss


def _folder_name(text: str) -> str:
    name = NO_NAME.sub("-", text)
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{name.encode()[: LONGEST - 11].decode(errors='ignore')}_{digest}"
