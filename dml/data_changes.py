"""A data set that has changed since a run was stopped: what changed is named, and classes go by their names."""

from __future__ import annotations

import copy
from dataclasses import replace

from omegaconf import MISSING

from dml.config import TrainConfig, build, to_plain
from dml.data import Splits, contents, contents_differences
from dml.errors import CheckpointError, InputError
from dml.randomness import torch_seed
from dml.resuming import OpenedRun
from dml.run_folder import RunFolder
from dml.training import ClassMapping, load_checkpoint

__all__ = ["axes_of_classes", "check_data", "data_differences"]


def data_differences(folder: RunFolder, splits: Splits, *parts: str) -> list[str]:
    """How the data set differs from the one that the last checkpoint of a run was made with, a sentence a change.

    Nothing differs where there is no checkpoint, or an older one, which does not say.

    parts: those that count, such as test.
    """
    if not folder.last.is_file():
        return []
    before = load_checkpoint(folder.last).get("record", {}).get("data") or {}
    return contents_differences({part: before[part] for part in parts if part in before}, contents(splits))


def check_data(run: OpenedRun, splits: Splits) -> OpenedRun:
    """Hold the data set of a run that goes on against the one that its last checkpoint was made with.

    Args:
        splits: the data set as it is read now.

    Returns:
        The run as it was if nothing changed or the checkpoint does not say, as older ones. If changes are accepted, the
        run with what says which classes are which.

    Raises:
        InputError: classes or files have changed, and ``accept_changes=true`` was not typed.
        CheckpointError: there are more classes than the checkpoint has, and it does not say which are which.
    """
    if not run.resumed:
        return run
    if run.data is None:
        return _with_enough_classes(run, splits)
    now = contents(splits)
    differences = contents_differences(run.data, now)
    if not differences:
        return run
    if not run.accept:
        raise InputError(
            f"{run.folder} was trained up to step {run.step} on a data set that has changed since:\n  "
            + "\n  ".join(differences)
            + "\nto go on as it was, undo that; to go on all the same, add: accept_changes=true. What was learned of a "
            "class then goes by its name, and a new one starts anew"
        )
    before = to_plain(run.cfg) if run.before is None else run.before
    names = {part: list(found["classes"]) for part, found in run.data.items()}
    val = splits.val_name
    mapping = ClassMapping.by_name(
        names["train"],
        splits.train.class_names,
        axes_of_classes(run.cfg, len(names["train"])),
        new_figure=run.data.get(val) != now[val],
    )
    return replace(
        run,
        cfg=_open_number(run.cfg, len(names["train"])),
        before=before,
        classes=mapping,
        new_test=run.data.get("test") != now["test"],
    )


def _with_enough_classes(run: OpenedRun, splits: Splits) -> OpenedRun:
    """The same of a run whose checkpoint does not name its classes, or that has none yet."""
    number, now = run.cfg.loss.get("num_classes"), splits.train.num_classes
    if not isinstance(number, int) or number >= now:
        return run
    if run.step is None and run.accept:
        return replace(run, cfg=_open_number(run.cfg, number), before=to_plain(run.cfg))
    advice = (
        "add accept_changes=true, as it has learned nothing yet" if run.step is None else "start a new run"
    )
    raise CheckpointError(
        f"{run.folder} was begun with {number:,} training classes, and its data set has {now:,} now: undo that, or "
        f"{advice}"
    )


def _open_number(cfg: TrainConfig, number: int) -> TrainConfig:
    """The configuration with the number of classes left open again, if it is that of the training set."""
    cfg = copy.deepcopy(cfg)
    if cfg.loss.get("num_classes") == number:
        cfg.loss.num_classes = MISSING
    return cfg


def axes_of_classes(cfg: TrainConfig, number: int) -> dict[str, int]:
    """The parameters that grow with the number of classes, found by building the loss for one class more."""
    axes = {"zero_shot.class_codes": 0} if cfg.zero_shot.weight else {}
    if cfg.loss.get("num_classes") != number:
        return axes
    shapes = []
    for count in (number, number + 1):
        loss = copy.deepcopy(cfg.loss)
        loss.num_classes = count
        with torch_seed(cfg.seed, "loss"):
            shapes.append({name: tensor.shape for name, tensor in build(loss).state_dict().items()})
    for name, shape in shapes[0].items():
        grown = [axis for axis, size in enumerate(shape) if shapes[1][name][axis] != size]
        axes.update({f"metric.{name}": axis for axis in grown})
    return axes
