"""What a run was configured to be, as differences from the defaults, and the commands that go on from it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from dml.config import TrainConfig, register_schema, settings, to_plain
from dml.installation import CONFIGS
from dml.overrides import argument, train_command
from dml.run_folder import RunFolder

__all__ = [
    "Command",
    "Difference",
    "commands_of",
    "differences_from_defaults",
    "headline",
    "key_text",
    "value_text",
]


class Difference(NamedTuple):
    """A key, its value in the run, and its default; the default is None for a key that the defaults do not have."""

    key: str
    value: str
    default: str | None


class Command(NamedTuple):
    """What it does, and what to type."""

    purpose: str
    line: str


def headline(cfg: TrainConfig) -> str:
    """What was trained on what, in a sentence."""
    pooling, backbone, loss, dataset = (
        value_text(part["_target_"]) for part in (cfg.pooling, cfg.backbone, cfg.loss, cfg.dataset)
    )
    zero_shot = " and the zero-shot loss" if cfg.zero_shot.weight else ""
    where = cfg.dataset.get("name") or cfg.dataset.get("root") or ""
    place = f" ({Path(str(where)).name})" if where else ""
    return (
        f"{pooling} on {backbone}, trained by {loss}{zero_shot} on the data set {dataset}{place} in up to "
        f"{cfg.trainer.max_steps:,} steps, seed {cfg.seed}."
    )


def differences_from_defaults(cfg: TrainConfig) -> list[Difference]:
    """The settings that can change a number and are not those of ``dml train``, in the order of the file.

    A component of another kind has all its arguments listed.
    """
    default, ours = settings(_defaults()), settings(to_plain(cfg))
    return [
        Difference(key_text(key), value_text(value), value_text(default[key]) if key in default else None)
        for key, value in ours.items()
        if key not in default or default[key] != value
    ]


def commands_of(folder: RunFolder, environment: Mapping[str, Any], *, last: bool) -> list[Command]:
    """The commands that repeat a finished run, measure it again, look into it and build on it.

    last: it is a final model on all classes already, or no step of it was kept.
    """
    run = shlex.quote(str(folder))
    typed = str(environment.get("command", ""))
    final = _final(typed, folder.path) if typed and not last else ""
    repeat = [Command("train it again, as it was typed", typed)] if typed else []
    return [
        *repeat,
        Command("train its first steps again: identical?", f"dml verify {run}"),
        Command("measure it again from its checkpoint", f"dml evaluate {run}"),
        Command("see what it finds for the hardest queries", f"dml grid {run}"),
        Command("see what it looks at", f"dml attention {run}"),
        Command("search for better settings", "dml sweep gsp --trials 30"),
        Command("search images of your own with it", f"dml index build {run} PHOTOS --to INDEX"),
        *([Command("train a final model with these choices on all classes", final)] if final else []),
        Command("use it in Python", f"model = dml.load_model({str(folder)!r})"),
    ]


def _final(typed: str, run: Path) -> str:
    """What was typed for a run, for a final model instead."""
    words = shlex.split(typed)
    if "-m" in words or "--multirun" in words or words[:2] != ["dml", "train"]:
        return ""
    own = ("protocol=", "protocol.", "hydra.", "resume=", "trainer.max_steps=")
    kept = [word for word in words[2:] if not word.startswith(own)]
    return train_command(*kept, "protocol=all", argument("protocol.run", run))


def _defaults() -> dict[str, Any]:
    if GlobalHydra.instance().is_initialized():  # at the end of training
        composed = hydra.compose("train")
    else:
        register_schema()
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            composed = hydra.compose("train")
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    return cast("dict[str, Any]", plain)


def key_text(key: str) -> str:
    """A dotted key for people: that of a component is its group."""
    return key.removesuffix("._target_")


def value_text(value: Any) -> str:
    """A value for people: a component of a known library by its own name."""
    if value is None:
        return "null"
    text = str(value)
    return (
        text.rpartition(".")[2] if text.startswith(("dml.", "torch.", "pytorch_metric_learning.")) else text
    )
