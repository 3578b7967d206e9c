"""The version of what a run writes, and how files of earlier versions become those of this one.

A change of the meaning or of the keys of config.yaml or of a checkpoint raises `FORMAT` by one and adds a function
under the version that it starts from. A new key gets the value with which runs without it did what they did.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from dml.errors import CheckpointError, ConfigError

__all__ = ["FORMAT", "RENAMED", "migrate_checkpoint", "migrate_config"]

FORMAT = 3

RENAMED = {"trainer.warmup_steps": "trainer.frozen_backbone_steps"}
"""Dotted keys of earlier versions, and what they are called now."""

Plain = dict[str, Any]


def migrate_config(config: Plain, origin: str, *, writer: str | None = None) -> Plain:
    """A saved configuration as this version would have written it; the one given stays as it is.

    Args:
        origin: the file, for messages.
        writer: the version of dml that wrote it, if that is known.

    Raises:
        ConfigError: a newer version wrote it, or the version is none.
    """
    version = config.get("format", 0)
    if problem := _problem(version, writer):
        raise ConfigError(f"{origin} {problem}")
    config = copy.deepcopy(config)
    for number in range(version, FORMAT):
        CONFIGS[number](config)
    return {**config, "format": FORMAT}


def migrate_checkpoint(state: Plain, origin: str) -> Plain:
    """The content of a checkpoint, with the configuration in its record, as this version would have written it.

    Raises:
        CheckpointError: a newer version wrote it, or the version is none.
        ConfigError: the same of the configuration in it.
    """
    version, writer = state.get("format", 0), state.get("dml")
    if problem := _problem(version, writer):
        raise CheckpointError(f"{origin} {problem}")
    for number in range(version, FORMAT):
        CHECKPOINTS[number](state)
    if "config" in state.get("record", {}):
        config = migrate_config(state["record"]["config"], origin, writer=writer)
        state["record"] = {**state["record"], "config": config}
    return {**state, "format": FORMAT}


def _problem(version: object, writer: str | None) -> str | None:
    """What keeps a file of this version from being read, as the rest of a sentence."""
    if type(version) is not int or version < 0:
        return f"has format: {version!r}, which is no version; accepted: 0 to {FORMAT}"
    if version > FORMAT:
        by = f"dml {writer}" if writer else "a newer dml"
        return f"is of format {version}, written by {by}; this one reads up to format {FORMAT}: update dml"
    return None


def _config_0(config: Plain) -> None:
    """Before formats had a version."""
    for key, value in ADDED_TO_0.items():
        _add(config, key, value)
    optimizer, pooling = _node(config, "optimizer"), _node(config, "pooling")
    if optimizer.get("_target_") in FUSED:
        optimizer.setdefault("fused", None)  # torch chose; true adds in another order
    if pooling.get("_target_") in GENERALIZED_SUMS:
        pooling.setdefault("prototype_start", "local")
        pooling.setdefault("kernel_size", None)
    backbone, dataset = _node(config, "backbone"), _node(config, "dataset")
    if backbone.get("_target_") == "dml.backbones.Tiny":
        widths = [16, 32, backbone.pop("out_channels")]
        backbone.update({"_target_": "dml.backbones.ConvNet", "widths": widths})
    if dataset.get("_target_") == "dml.data.collage_dataset" and "tile_size" in dataset:
        dataset["size"] = dataset["grid"] * dataset.pop("tile_size")


ADDED_TO_0 = {
    "memory.batches": 0,
    "memory.start_step": 1000,
    "memory.weight": 1.0,
    "miner._target_": None,
    "trainer.compile": False,
    "trainer.deterministic": False,
    "trainer.ema": None,
    "trainer.initialisation_locations": None,
    "trainer.micro_batch": None,
    "trainer.patience": None,
    "trainer.precision": "fp32",
    "trainer.save_every": None,
    "trainer.tf32": False,  # on a GPU torch took it for convolutions; no run of then is known to have had one
    "transform.short_side": None,
}
FUSED = ("torch.optim.Adam", "torch.optim.AdamW", "torch.optim.SGD")
GENERALIZED_SUMS = tuple(f"dml.pooling.GeneralizedSum{kind}Pooling" for kind in ("", "Max", "GeM"))


ADDED_TO_1 = {
    "zero_shot.centred": False,
    "zero_shot.start": "published",
    "zero_shot.cosine": False,
    "zero_shot.learnable_scale": False,
}
ADDED_TO_PARTS_OF_1: tuple[tuple[str, tuple[str, ...], Plain], ...] = (
    ("pooling", GENERALIZED_SUMS, {"effective_share": 0.5, "attribute_sharpness": None}),
    ("backbone", ("dml.backbones.EfficientNetLite0",), {"output_stride": 32}),
    ("dataset", ("dml.data.collage_dataset",), {"target_place": None}),
)


def _config_1(config: Plain) -> None:
    """Before keys were renamed, a loss said what it takes, which was tried, and transforms had ``whole_pixels``.

    And before a sharpness was fitted, and before the zero-shot loss had options.
    """
    for before, now in RENAMED.items():
        section, _, name = before.partition(".")
        if name in (node := _node(config, section)):
            node[now.partition(".")[2]] = node.pop(name)
    _add(config, "memory.own_images", True)
    used = ["tuples"] * bool(_node(config, "miner").get("_target_"))
    used += ["references"] * bool(_node(config, "memory").get("batches"))
    if used:  # for the rest nothing is known
        _add(config, "loss._takes_", used)
    transform = _node(config, "transform")
    for part in (_node(transform, "train"), _node(transform, "evaluation")):
        if part.get("_target_") in CROPS:
            part["_target_"], part["whole_pixels"] = CROPS[part["_target_"]]
    for key, value in ADDED_TO_1.items():
        _add(config, key, value)
    for name, kinds, added in ADDED_TO_PARTS_OF_1:
        if (node := _node(config, name)).get("_target_") in kinds:
            config[name] = {**added, **node}


def _config_2(config: Plain) -> None:
    """Before loggers were components."""
    before = _node(config, "logger").get("tensorboard", False)
    config["logger"] = {"tensorboard": {"_target_": "dml.loggers.TensorBoardLogger"}} if before else {}


CROPS = {
    f"dml.data.{kind}{role}Transform": (f"dml.data.{role}Transform", kind == "Photograph")
    for kind in ("", "Photograph")
    for role in ("Training", "Evaluation")
}


def _checkpoint_0(state: Plain) -> None:
    """Before formats had a version; the first ones had no half precision and kept no record."""
    if "optimizer" in state:
        state.setdefault("scaler", {})
        state.setdefault("record", {})


def _checkpoint_1(state: Plain) -> None:
    """Before the record said what the data set consisted of."""
    if "record" in state:
        state["record"] = {"data": None, **state["record"]}


def _checkpoint_2(state: Plain) -> None:
    """Before loggers were components; only the configuration in the record is another."""


CONFIGS: dict[int, Callable[[Plain], None]] = {0: _config_0, 1: _config_1, 2: _config_2}
CHECKPOINTS: dict[int, Callable[[Plain], None]] = {0: _checkpoint_0, 1: _checkpoint_1, 2: _checkpoint_2}


def _add(config: Plain, key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    if isinstance(node := config.setdefault(section, {}), dict):
        node.setdefault(name, value)


def _node(config: Plain, key: str) -> Plain:
    """The node of a component; an empty one if the file, which is not ours then, has none."""
    node = config.get(key)
    return node if isinstance(node, dict) else {}
