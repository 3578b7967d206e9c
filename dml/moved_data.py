"""Where the files of a run lie now, if not where they lay when it was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

from dml.config import TrainConfig
from dml.errors import InputError

__all__ = ["move_data"]

OWN_IMAGES = {f"dml.data.{reader}" for reader in ("folder", "table", "shards", "hub")}


def move_data(cfg: TrainConfig, data: str) -> None:
    """Point ``paths.data``, and all paths below it, which were resolved when the run was saved, to another place.

    A data set that lies elsewhere is at the new place itself: a folder of images, or the table or the folder of it. So
    are your own images that are below ``paths.data``, if they are not below the new place.

    Raises:
        InputError: nothing of the configuration lies in any place.
    """
    node, old, key = cast(DictConfig, cfg), cfg.paths.data, _place_of_data(cfg)
    place: Any = None if key is None else cfg.dataset[key]
    before = OmegaConf.to_container(node)
    _move(node, old, data)
    cfg.paths.data = old
    if key is not None and not (_lies_below(place, old) and _stays_below(cfg, key, data)):
        is_table = key == "path" and Path(data).is_dir()
        cfg.dataset[key] = str(Path(data) / Path(place).name) if is_table else data
    elif key is None and OmegaConf.to_container(node) == before and data != old:
        raise InputError(
            f"data={data} would move nothing: no file of this run lies below {old}, and its data set has no root, path "
            "or name of a folder; leave it out"
        )
    cfg.paths.data = data


def _place_of_data(cfg: TrainConfig) -> str | None:
    """The argument of the reader that says where its images lie; None if it has none."""
    for key in ("root", "path", "name"):
        if isinstance(cfg.dataset.get(key), (str, ListConfig)):
            on_the_hub = key == "name" and cfg.dataset.get("revision") is not None
            return None if on_the_hub else key
    return None


def _stays_below(cfg: TrainConfig, key: str, data: str) -> bool:
    """Whether images below the new place are to be looked for there, not at the new place itself."""
    place = cfg.dataset[key]
    own = cfg.dataset["_target_"] in OWN_IMAGES and isinstance(place, str)
    return not own or Path(place).exists() or not Path(data).exists()


def _lies_below(place: Any, folder: str) -> bool:
    if isinstance(place, ListConfig):
        return all(_lies_below(each, folder) for each in place)
    return isinstance(place, str) and f"{place.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def _move(node: DictConfig | ListConfig, old: str, new: str) -> None:
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        value: Any = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(value, (DictConfig, ListConfig)):
            _move(value, old, new)
        elif _lies_below(value, old):
            below = value[len(old.rstrip("/")) :].strip("/")
            node[key] = f"{new.rstrip('/')}/{below}" if below else new.rstrip("/")
