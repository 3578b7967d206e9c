"""The run folder: what a run writes, and how it is read back.

config.yaml           the resolved configuration, complete
environment.json      versions, git revision, command line, seed, device
history.csv           validation metrics and training scalars, a row per validation
checkpoints/last.pt   everything that is needed to go on; best.pt: the weights that are reported, chosen by the
                      validation classes, or the last ones under protocol=conventional
metrics.json          {"val": {...}, "test": {...}} of best.pt; under protocol=conventional "train" instead of "val",
                      and "best_on_test" if it was asked for
test_embeddings.npz   vectors, labels, class_names and files of the test set
tensorboard/          event files
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from dml.assembly import build_data, build_evaluator, build_model, choose_device
from dml.config import ConfigError, TrainConfig, check_config, load_config
from dml.data import Records
from dml.model import EmbeddingModel
from dml.retrieval import Embeddings, RetrievalMetrics
from dml.training import load_checkpoint
from dml.training.best_on_test import load_best_on_test

__all__ = ["evaluate_run", "finish_run", "load_metrics", "load_model", "open_run", "start_run"]

PACKAGES = (
    "dml",
    "torch",
    "torchvision",
    "timm",
    "pytorch-metric-learning",
    "faiss-cpu",
    "hydra-core",
    "numpy",
    "pillow",
)


def open_run(cfg: TrainConfig, folder: Path, *, overrides: Sequence[str] = ()) -> tuple[TrainConfig, Path]:
    """The configuration and the folder of the run: those given, or those of the run that ``cfg.resume`` names.

    Args:
        overrides: what was typed; beside ``resume=`` there may be nothing.

    Raises:
        FileExistsError: the folder holds a run already, or the run to resume is finished.
        FileNotFoundError: the folder to resume is no run folder.
        ConfigError: the configuration does not fit the schema, or something was typed beside ``resume=``.
    """
    if cfg.resume is None:
        _refuse_used(folder)
        return check_config(cfg, "the configuration"), folder
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()  # Hydra made it for a new run
    if others := [word for word in overrides if not word.startswith("resume=")]:
        raise ConfigError(f"resume= goes on with the configuration of that run; leave out {' '.join(others)}")
    folder = Path(cfg.resume)
    saved = load_config(folder / "config.yaml")
    if (folder / "metrics.json").exists():
        raise FileExistsError(
            f"{folder} is finished, there is nothing to resume; its figures are in metrics.json"
        )
    return saved, folder


def start_run(cfg: TrainConfig, folder: Path) -> None:
    """Claim the folder, and write the configuration and the environment.

    Raises:
        FileExistsError: another run has taken the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_used(folder)
    resolved = OmegaConf.to_container(cast(DictConfig, cfg), resolve=True)
    try:
        with (folder / "config.yaml").open("x", encoding="utf-8") as file:  # of two at once, one is refused
            file.write(OmegaConf.to_yaml(OmegaConf.create(resolved)))
    except FileExistsError:
        _refuse_used(folder)
    _write_json(folder / "environment.json", _environment(cfg))


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
    path = folder / "test_embeddings.npz"
    with path.with_suffix(".partial").open("wb") as file:
        np.savez(
            file,
            vectors=embeddings.vectors.numpy(),
            labels=embeddings.labels.numpy(),
            class_names=np.array(records.class_names),
            files=np.array(records.files),
        )
    path.with_suffix(".partial").replace(path)
    figures = {split: dict(values) for split, values in metrics.items()} | load_best_on_test(folder)
    _write_json(folder / "metrics.json", figures)


def load_model(
    folder: str | Path, *, checkpoint: str = "best", device: torch.device | str = "cpu"
) -> EmbeddingModel:
    """The trained model of a run folder, in evaluation mode, with its ``preprocess``.

    Args:
        folder: a run folder.
        checkpoint: ``best`` or ``last``.

    Raises:
        FileNotFoundError: the folder is no run folder, or the checkpoint has not been written.
        ValueError: the checkpoint is damaged.
    """
    folder = Path(folder)
    cfg = load_config(folder / "config.yaml")
    path = folder / "checkpoints" / f"{checkpoint}.pt"
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
    folder: str | Path, *, checkpoint: str = "best", data: str | None = None, device: str | None = None
) -> dict[str, RetrievalMetrics]:
    """Measure a run again from its checkpoint: ``{"val": ..., "test": ...}``, or ``"train"`` as in metrics.json.

    Args:
        folder: a run folder.
        checkpoint: ``best`` or ``last``.
        data: where the data sets lie now; None where they lay in training.
        device: None takes that of the run's configuration.

    Raises:
        FileNotFoundError: the run, its checkpoint or its data set is not there.
    """
    cfg = load_config(Path(folder) / "config.yaml")
    if data is not None:
        _move_data(cfg, data)
    if device is not None:
        cfg.trainer.device = device
    splits = build_data(cfg)
    evaluator = build_evaluator(cfg, splits)
    model = load_model(folder, checkpoint=checkpoint, device=choose_device(cfg))
    return {
        splits.val_name: evaluator(model, splits.val).metrics,
        "test": evaluator(model, splits.test).metrics,
    }


def _move_data(cfg: TrainConfig, data: str) -> None:
    """Point the paths of the data set, which were resolved when the run was saved, to another place."""
    for key, value in cfg.dataset.items():
        if isinstance(value, str) and Path(value).is_relative_to(cfg.paths.data):
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


def _environment(cfg: TrainConfig) -> dict[str, Any]:
    device = choose_device(cfg)
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "seed": cfg.seed,
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or "cpu",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "git_revision": _git("rev-parse", "HEAD"),
        "git_modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # installed under another name, such as faiss from conda
        return None


def _git(*arguments: str) -> str | None:
    """What git says of this source tree; None outside a checkout or without git."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
