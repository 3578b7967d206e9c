"""The run folder: what a run writes, and how it is read back.

config.yaml           the resolved configuration, complete
environment.json      versions, git revision, command line, seed, device
history.csv           validation metrics and training scalars, a row per validation
steps.csv             loss and gradient norm of every step, with all digits
checkpoints/last.pt   everything that is needed to go on; best.pt: the weights that are reported, chosen by the
                      validation classes, or the last ones under protocol=conventional
metrics.json          {"val": {...}, "test": {...}} of best.pt; under protocol=conventional "train" instead of "val",
                      and "best_on_test" if it was asked for
test_embeddings.npz   vectors, labels, class_names, files, is_query and is_gallery of the test set
tensorboard/          event files

With several processes the main one writes, and all read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.assembly import build_data, build_evaluator, build_model, environment_of
from dml.config import (
    ConfigError,
    TrainConfig,
    check_config,
    config_differences,
    load_config,
    read_config,
    to_plain,
)
from dml.data import Records
from dml.devices import choose_device
from dml.distributed import broadcast, is_main
from dml.locks import lock_folder, unlock_folder
from dml.model import EmbeddingModel
from dml.retrieval import Embeddings, RetrievalMetrics
from dml.training import load_best_on_test, load_checkpoint
from dml.trust import UntrustedError, refuse_interpolations

__all__ = [
    "evaluate_run",
    "finish_run",
    "load_metrics",
    "load_model",
    "located_config",
    "move_data",
    "open_run",
    "start_run",
    "trained_model",
]


class OpenedRun(NamedTuple):
    """resumed: whether the folder holds a run that has begun."""

    cfg: TrainConfig
    folder: Path
    resumed: bool


def open_run(cfg: TrainConfig, folder: Path, *, overrides: Sequence[str] = ()) -> OpenedRun:
    """The configuration and the folder of the run: those given, or those of the run that ``cfg.resume`` asks for.

    ``resume=FOLDER`` goes on with the configuration of that run and what is typed beside it. ``resume=auto`` goes on
    with the run in the given folder, or with the newest unfinished run of this very configuration; if there is
    none, a new one begins. What would change the numbers of a run that has begun is refused, unless
    ``accept_changes=true``.

    Args:
        overrides: what was typed.

    Raises:
        FileExistsError: the folder holds a run already, or the run to resume is finished or under way.
        FileNotFoundError: the folder to resume is no run folder.
        ConfigError: the configuration does not fit the schema, or differs from that of the run to resume.
    """
    own = OpenedRun(cfg, folder, False)
    cfg, main_folder, resumed = broadcast(_open(cfg, folder, overrides) if is_main() else own)
    if folder != main_folder:
        with suppress(OSError):
            folder.rmdir()  # Hydra made it for a new run; it goes only if it is empty
    return OpenedRun(cfg, main_folder, resumed)


def _open(cfg: TrainConfig, folder: Path, overrides: Sequence[str]) -> OpenedRun:
    if cfg.resume is not None and cfg.resume != "auto":
        named = Path(cfg.resume)
        changed = _overridden(load_config(named / "config.yaml", trust=cfg.trust), overrides)
        return OpenedRun(_resumed(named, changed, accept=cfg.accept_changes), named, True)
    cfg = check_config(cfg, "the configuration")
    found = _unfinished(cfg, folder) if cfg.resume == "auto" else None
    if found is not None:
        return OpenedRun(_resumed(found, cfg, accept=cfg.accept_changes), found, True)
    _refuse_used(folder)
    cfg.resume, cfg.trust = None, []
    return OpenedRun(cfg, folder, False)


def _resumed(folder: Path, cfg: TrainConfig, *, accept: bool) -> TrainConfig:
    """The configuration to go on with, after it was held against the one that the last checkpoint was made with."""
    if (folder / "metrics.json").exists():
        raise FileExistsError(
            f"{folder} is finished, there is nothing to resume; its figures are in metrics.json"
        )
    cfg.resume, cfg.accept_changes, cfg.trust = None, False, []
    if not lock_folder(folder):
        raise FileExistsError(f"{folder} is under way in another process: wait for it, or stop it first")
    checkpoint, step = folder / "checkpoints" / "last.pt", 0
    before = to_plain(read_config(folder / "config.yaml"))
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        refuse_interpolations(state["record"]["config"], str(checkpoint))
        saved = cast(TrainConfig, OmegaConf.create(state["record"]["config"]))
        before, step = to_plain(check_config(saved, str(checkpoint))), state["step"]
    differences = config_differences(before, to_plain(cfg))
    if differences and not accept:
        raise ConfigError(
            f"{folder} was trained up to step {step} with another configuration:\n  "
            + "\n  ".join(differences)
            + "\nleave these as they were, or add accept_changes=true to go on with the new values"
        )
    if differences:
        _write_text(folder / f"config.until_step_{step}.yaml", OmegaConf.to_yaml(OmegaConf.create(before)))
    _write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(to_plain(cfg))))
    return cfg


def _overridden(cfg: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """A saved configuration with what was typed beside ``resume=``."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, value = override.key_or_group, override.value()
        if key in ("resume", "accept_changes", "trust"):
            continue
        current = OmegaConf.select(cast(DictConfig, cfg), key)
        if override.is_delete() or override.is_add() or OmegaConf.is_dict(current):
            raise ConfigError(
                f"{override.input_line}: a run keeps its parts; beside resume= only values can change, as in "
                "trainer.max_steps=500"
            )
        if key == "paths.data":
            move_data(cfg, str(value))
            continue
        try:
            OmegaConf.update(cast(DictConfig, cfg), key, value, force_add=False)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{override.input_line}: {str(error).splitlines()[0]}") from error
    return cfg


def _unfinished(cfg: TrainConfig, folder: Path) -> Path | None:
    """The folder itself if it holds a run, else the youngest below ``paths.runs`` that has this configuration.

    Runs that are finished or under way are passed over.
    """
    if (folder / "config.yaml").exists():
        return folder
    saved = sorted(Path(cfg.paths.runs).rglob("config.yaml"), key=lambda path: -path.stat().st_mtime)
    for path in saved:
        if (path.parent / "metrics.json").exists():
            continue
        with suppress(ConfigError, UntrustedError, OSError):  # also what others keep to themselves
            same = not config_differences(to_plain(read_config(path)), to_plain(cfg))
            if same and lock_folder(path.parent):
                return path.parent
    return None


def start_run(cfg: TrainConfig, folder: Path) -> None:
    """Claim the folder, and write the environment and the configuration.

    Raises:
        FileExistsError: another run has taken the folder.
    """
    if not is_main():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not lock_folder(folder):
        raise FileExistsError(f"{folder} is under way in another process: choose another hydra.run.dir")
    _refuse_used(folder)
    _write_json(folder / "environment.json", environment_of(cfg))
    _write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(to_plain(cfg))))


def _refuse_used(folder: Path) -> None:
    if any((folder / name).exists() for name in ("config.yaml", "checkpoints", "metrics.json")):
        raise FileExistsError(
            f"{folder} holds a run already, and no run overwrites another: choose another hydra.run.dir, "
            f"or go on with that run by resume={folder}"
        )


def finish_run(
    folder: Path, *, metrics: Mapping[str, Mapping[str, float]], records: Records, embeddings: Embeddings
) -> None:
    """Write the metrics and the test embeddings, each whole or not at all."""
    if not is_main():
        return
    path = folder / "test_embeddings.npz"
    is_query, is_gallery = _roles(records)
    with path.with_suffix(".partial").open("wb") as file:
        np.savez(
            file,
            vectors=embeddings.vectors.numpy(),
            labels=embeddings.labels.numpy(),
            class_names=np.array(records.class_names),
            files=np.array(records.files),
            is_query=is_query,
            is_gallery=is_gallery,
        )
    path.with_suffix(".partial").replace(path)
    figures = {split: dict(values) for split, values in metrics.items()} | load_best_on_test(folder)
    _write_json(folder / "metrics.json", figures)
    unlock_folder(folder)


def _roles(records: Records) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images search and which are found; every image does both unless the set has queries and a gallery."""
    if records.is_query is None:
        both = np.ones(len(records), dtype=bool)
        return both, both
    return records.is_query, ~records.is_query


def load_model(
    folder: str | Path,
    *,
    checkpoint: str = "best",
    device: torch.device | str = "cpu",
    trust: Sequence[str] = (),
) -> EmbeddingModel:
    """The trained model of a run folder, in evaluation mode, with its ``preprocess``.

    Args:
        folder: a run folder; a stranger's cannot run code, see docs/security.md.
        checkpoint: ``best`` or ``last``.
        trust: your own packages that its configuration may name.

    Raises:
        FileNotFoundError: the folder is no run folder, or the checkpoint has not been written.
        UntrustedError: the configuration names code that is not allowed.
        ValueError: the checkpoint is damaged.
    """
    cfg = load_config(Path(folder) / "config.yaml", trust=trust)
    return trained_model(cfg, folder, checkpoint=checkpoint, device=device)


def trained_model(
    cfg: TrainConfig, folder: str | Path, *, checkpoint: str = "best", device: torch.device | str = "cpu"
) -> EmbeddingModel:
    """The trained model of a run whose configuration is known already; errors as in load_model."""
    path = Path(folder) / "checkpoints" / f"{checkpoint}.pt"
    state = load_checkpoint(path)
    model = build_model(cfg, pretrained=False)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit {folder}/config.yaml, one of them was changed: {error}"
        ) from error
    return model.to(device).eval()


def evaluate_run(
    folder: str | Path,
    *,
    checkpoint: str = "best",
    data: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> dict[str, RetrievalMetrics]:
    """Measure a run again from its checkpoint: ``{"val": ..., "test": ...}``, or ``"train"`` as in metrics.json.

    Args:
        folder: a run folder.
        checkpoint: ``best`` or ``last``.
        data: where the data sets lie now; None where they lay in training.
        device: None takes that of the run's configuration.
        trust: as in load_model.

    Raises:
        FileNotFoundError: the run, its checkpoint or its data set is not there.
    """
    cfg = located_config(folder, data=data, device=device, trust=trust)
    splits = build_data(cfg)
    evaluator = build_evaluator(cfg, splits)
    model = trained_model(cfg, folder, checkpoint=checkpoint, device=choose_device(cfg))
    return {
        splits.val_name: evaluator(model, splits.val).metrics,
        "test": evaluator(model, splits.test).metrics,
    }


def located_config(
    folder: str | Path, *, data: str | None, device: str | None, trust: Sequence[str] = ()
) -> TrainConfig:
    """The configuration of a run, for the place and the machine where it is looked at now.

    Args:
        data: where the data sets lie now; None where they lay in training.
        device: None takes that of the run's configuration.
        trust: as in load_model.

    Raises:
        FileNotFoundError: the folder is no run folder.
    """
    cfg = load_config(Path(folder) / "config.yaml", trust=trust)
    if data is not None:
        move_data(cfg, data)
    if device is not None:
        cfg.trainer.device = device
    return cfg


def move_data(cfg: TrainConfig, data: str) -> None:
    """Point the paths of the data set, which were resolved when the run was saved, to another place."""
    for key, value in cfg.dataset.items():
        if (
            isinstance(value, str)
            and not str(key).startswith("_")
            and Path(value).is_relative_to(cfg.paths.data)
        ):
            cfg.dataset[key] = str(Path(data) / Path(value).relative_to(cfg.paths.data))
    cfg.paths.data = data


def load_metrics(folder: str | Path) -> dict[str, dict[str, float]]:
    """The content of ``metrics.json``.

    Raises:
        FileNotFoundError: the run is not finished, or the folder is no run folder.
    """
    path = Path(folder) / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no metrics at {path}: the run is not finished; go on with it by resume={folder}"
        )
    metrics: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    return metrics


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
