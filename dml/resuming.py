"""Which configuration and which folder a run goes on with: what was typed, held against what was saved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.config import TrainConfig, check_component, check_config, config_differences, read_config, to_plain
from dml.data import Contents
from dml.distributed import broadcast, is_main
from dml.errors import ConfigError, OccupiedError, UserError
from dml.locks import lock_folder
from dml.moved_data import move_data
from dml.overrides import resume_command
from dml.run_folder import RunFolder
from dml.training import ClassMapping, load_checkpoint
from dml.trust import refuse_interpolations, refuse_untrusted

__all__ = ["OpenedRun", "open_run", "refuse_used"]


IMAGES = ("dataset.name", "dataset.path", "dataset.root")
"""Where images lie: a checkpoint that says what they were is held against the images, see `dml.data_changes`."""


@dataclass(frozen=True)
class OpenedRun:
    """A run that is about to start or to go on.

    resumed: whether the folder holds a run that has begun.
    step:    that of its last checkpoint, from which it goes on; None if there is none.
    before:  the configuration that it had up to there, if another one was accepted; else None.
    accept:  whether changes are accepted.
    data:    what its data set consisted of, if the checkpoint says so; else None.
    classes: which classes are which, if other classes or images than it had were accepted; else None.
    new_test: whether the test images are among those.
    """

    cfg: TrainConfig
    folder: RunFolder
    resumed: bool = False
    step: int | None = None
    before: dict[str, Any] | None = None
    accept: bool = False
    data: Contents | None = None
    classes: ClassMapping | None = None
    new_test: bool = False


def open_run(cfg: TrainConfig, folder: Path, *, overrides: Sequence[str] = ()) -> OpenedRun:
    """The configuration and the folder of the run: those given, or those of the run that ``cfg.resume`` asks for.

    ``resume=FOLDER`` goes on with the configuration of that run and the values that are typed beside it; if a part is
    chosen beside it, as by ``pooling=gap``, the whole configuration given is the one to go on with. ``resume=auto``
    goes on with the run in the given folder, or with the newest unfinished run of this very configuration; if there
    is none, a new one begins. What would change the numbers of a run that has begun is refused, unless
    ``accept_changes=true``. Nothing is written but the lock.

    Args:
        overrides: what was typed.

    Raises:
        OccupiedError: the folder holds a run already, or the run to resume is finished or under way.
        MissingFileError: the folder to resume is no run folder.
        CheckpointError: its last checkpoint is damaged or of a newer version.
        ConfigError: the configuration does not fit the schema, or differs from that of the run to resume.
    """
    own = RunFolder(folder)
    opened = broadcast(_open(cfg, own, overrides) if is_main() else OpenedRun(cfg, own))
    if opened.folder != own:
        with suppress(OSError):
            folder.rmdir()  # Hydra made it for a new run; it goes only if it is empty
    return opened


def _open(cfg: TrainConfig, folder: RunFolder, overrides: Sequence[str]) -> OpenedRun:
    if cfg.resume is not None and cfg.resume != "auto":
        named = RunFolder(Path(cfg.resume))
        return _resumed(named, *_typed(cfg, named, overrides), accept=cfg.accept_changes)
    cfg = check_config(cfg, "the configuration")
    found = _unfinished(cfg, folder) if cfg.resume == "auto" else None
    if found is not None:
        return _resumed(found, _completed(cfg, read_config(found.config)), "", accept=cfg.accept_changes)
    refuse_used(folder)
    cfg.resume, cfg.trust = None, []
    return OpenedRun(cfg, folder)


def _resumed(folder: RunFolder, cfg: TrainConfig, choice: str, *, accept: bool) -> OpenedRun:
    """The configuration to go on with, after it was held against the one that the last checkpoint was made with.

    choice: what was typed that made the whole configuration count; empty if nothing did.
    """
    if folder.metrics.exists():
        raise OccupiedError(
            f"{folder} is finished, there is nothing to resume; its figures are in {folder.metrics.name}"
        )
    cfg.resume, cfg.accept_changes, cfg.trust = None, False, []
    if not lock_folder(folder.path):
        raise OccupiedError(f"{folder} is under way in another process: wait for it, or stop it first")
    before, step, recorded, data = to_plain(read_config(folder.config)), None, True, None
    if folder.last.exists():
        state = load_checkpoint(folder.last)
        step, recorded = state["step"], "config" in state["record"]
        data = state["record"].get("data")
        if recorded:
            refuse_interpolations(state["record"]["config"], str(folder.last))
            saved = cast(TrainConfig, OmegaConf.create(state["record"]["config"]))
            before = to_plain(check_config(saved, str(folder.last)))
    differences = [
        line
        for line in config_differences(before, to_plain(cfg))
        if data is None or line.partition(":")[0] not in IMAGES
    ]
    if differences and not (accept and recorded):
        raise ConfigError(
            f"{folder} was trained up to step {step or 0} with another configuration:\n  "
            + "\n  ".join(differences)
            + _advice(folder, before, choice, recorded=recorded)
        )
    return OpenedRun(cfg, folder, True, step, before if differences else None, accept, data)


def _advice(folder: RunFolder, before: dict[str, Any], choice: str, *, recorded: bool) -> str:
    lines = []
    if choice:
        lines.append(
            f"{choice} chooses a part, so the whole configuration of this command was compared; what it leaves out "
            "has its default"
        )
    if config_differences(before, to_plain(read_config(folder.config))):
        lines.append(f"{folder.config} was edited since; to go on as it was, undo that")
    else:
        lines.append(f"to go on as it was, type no more than: {resume_command(folder)}")
    if recorded:
        lines.append("to go on with the new values, add: accept_changes=true")
    else:
        lines.append(
            "its checkpoint is of a version that could not take changes: for other values start a new run"
        )
    return "\n" + "\n".join(lines)


def _typed(cfg: TrainConfig, folder: RunFolder, overrides: Sequence[str]) -> tuple[TrainConfig, str]:
    """What was typed beside ``resume=`` makes of the saved configuration, and the first choice of a part in it.

    A part that was typed is the user's own; of a saved one that is to be built, `dml.trust` is asked.
    """
    saved = read_config(folder.config)
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    typed = [
        override
        for override in parsed
        if override.key_or_group not in ("resume", "accept_changes", "trust")
        and override.key_or_group.replace("/", ".").partition(".")[0] != "hydra"
    ]
    loggers = [override for override in typed if override.key_or_group == "logger"]
    typed = [override for override in typed if override not in loggers]
    for override in typed:
        if _chooses_a_part(override, saved):
            checked = check_config(cfg, "the configuration")
            return _completed(checked, saved), str(override.input_line)
    if loggers:  # which change no number, so that they may be chosen anew
        saved.logger = cfg.logger
    plain = cast(dict[str, Any], OmegaConf.to_container(cast(DictConfig, saved)))
    refuse_untrusted({**plain, "logger": {}} if loggers else plain, str(folder.config), trust=cfg.trust)
    return _laid_over(saved, typed), ""


def _chooses_a_part(override: Override, saved: TrainConfig) -> bool:
    """Whether it names a file in configs/, as ``pooling=gap`` and ``experiment=emoji/gap`` do, and not a value."""
    key, node = override.key_or_group, cast(DictConfig, saved)
    if "." in key:
        return False
    return "/" in key or override.package is not None or key not in node or OmegaConf.is_dict(node[key])


def _completed(cfg: TrainConfig, saved: TrainConfig) -> TrainConfig:
    """The configuration with the values of the saved one where it leaves them open (``???``)."""
    for key in OmegaConf.missing_keys(cfg):
        value = OmegaConf.select(cast(DictConfig, saved), key)
        if value is not None and not OmegaConf.is_config(value):  # a part would have to be trusted
            OmegaConf.update(cast(DictConfig, cfg), key, value)
    return cfg


def _laid_over(cfg: TrainConfig, typed: Sequence[Override]) -> TrainConfig:
    """The saved configuration with the values that were typed, as they are typed for a new run."""
    node = cast(DictConfig, cfg)
    for override in typed:
        key, value = override.key_or_group, override.value()
        try:
            if key == "paths.data":
                move_data(cfg, str(value))
            elif override.is_delete():
                section, _, name = key.rpartition(".")
                (OmegaConf.select(node, section) if section else node).pop(name, None)
            else:
                OmegaConf.update(node, key, value, force_add=override.is_add() or override.is_force_add())
        except (OmegaConfBaseException, AttributeError) as error:
            raise ConfigError(f"{override.input_line}: {str(error).splitlines()[0]}") from error
    for place in {override.key_or_group.rpartition(".")[0] for override in typed} - {""}:
        part = OmegaConf.select(node, place)
        if OmegaConf.is_dict(part) and "_target_" in part:
            check_component(cast(DictConfig, part))  # before anything is compared
    return check_config(cfg, "the configuration")


def _unfinished(cfg: TrainConfig, folder: RunFolder) -> RunFolder | None:
    """The folder itself if it holds a run, else the youngest below ``paths.runs`` that has this configuration.

    Runs that are finished or under way are passed over.
    """
    if folder.config.exists():
        return folder
    saved = sorted(Path(cfg.paths.runs).rglob(folder.config.name), key=lambda path: -path.stat().st_mtime)
    for run in (RunFolder(path.parent) for path in saved):
        if run.metrics.exists():
            continue
        with suppress(UserError, OSError):  # what cannot be read or locked cannot be gone on with
            same = not config_differences(to_plain(read_config(run.config)), to_plain(cfg))
            if same and lock_folder(run.path):
                return run
    return None


def refuse_used(folder: RunFolder) -> None:
    """Raise OccupiedError if the folder holds a run."""
    if any(path.exists() for path in (folder.config, folder.checkpoints, folder.metrics)):
        raise OccupiedError(
            f"{folder} holds a run already, and no run overwrites another: choose another hydra.run.dir, "
            f"or go on with that run by: {resume_command(folder)}"
        )
