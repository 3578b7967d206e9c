"""What a run writes into its folder, and how it is read back: dml/run_folder.py says which file holds what.

With several processes the main one writes, and all read.
"""

from __future__ import annotations

import csv
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from dml.assembly import build_data, build_evaluator, build_model, environment_of
from dml.config import TrainConfig, load_config, to_plain
from dml.data import Records
from dml.data_changes import check_data, data_differences
from dml.devices import choose_device, named_device
from dml.distributed import is_main
from dml.errors import MissingFileError, OccupiedError, user_files
from dml.locks import lock_folder, unlock_folder
from dml.model import EmbeddingModel
from dml.moved_data import move_data
from dml.overrides import resume_command
from dml.resuming import OpenedRun, open_run, refuse_used
from dml.retrieval import Embeddings
from dml.run_folder import RunFolder
from dml.shared_models import WEIGHTS, local_folder, read_weights
from dml.training import load_best_on_test, load_checkpoint, load_part

__all__ = [
    "OpenedRun",
    "check_data",
    "evaluate_run",
    "finish_run",
    "kept_step",
    "load_metrics",
    "load_model",
    "located_config",
    "move_data",
    "open_run",
    "start_run",
    "trained_model",
]


def start_run(run: OpenedRun) -> None:
    """Claim the folder of a new run and describe it there; of one that goes on, keep what the configuration is now.

    Raises:
        OccupiedError: another run has taken the folder.
        FileError: the folder cannot be written.
    """
    if not is_main():
        return
    folder, cfg = run.folder, run.cfg
    with user_files(f"writing the configuration of {folder}"):
        if not run.resumed:
            _claim(folder)
            _write_json(folder.environment, environment_of(cfg))
        if run.before is not None:
            _write_config(folder.earlier_config(run.step or 0), run.before)
        if run.new_test and folder.best_on_test.exists():
            folder.best_on_test.replace(folder.earlier_best_on_test(run.step or 0))
        _write_config(folder.config, to_plain(cfg))


def _claim(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    if not lock_folder(folder.path):
        raise OccupiedError(f"{folder} is under way in another process: choose another hydra.run.dir")
    refuse_used(folder)


Folder = str | os.PathLike[str]


def finish_run(
    folder: Folder,
    *,
    metrics: Mapping[str, Mapping[str, float]],
    records: Records | None,
    embeddings: Embeddings | None,
) -> None:
    """Write the metrics and the test embeddings, each whole or not at all.

    records, embeddings: the test images and what was made of them; None for a run without test classes.

    Raises:
        FileError: the folder cannot be written; the checkpoints in it stay, and resume= goes on from there.
    """
    if not is_main():
        return
    run = RunFolder(Path(folder))
    with user_files(f"writing the results of {run}"):
        if records is not None and embeddings is not None:
            _write_embeddings(run.test_embeddings, records, embeddings)
        figures = {split: dict(values) for split, values in metrics.items()} | load_best_on_test(run)
        _write_json(run.metrics, {**figures, **_course(run)})
    unlock_folder(run.path)


def _course(run: RunFolder) -> dict[str, Any]:
    """The step that was kept, and the validation figures of the model before the first one."""
    course: dict[str, Any] = {}
    if untrained := _untrained(run):
        course["untrained"] = untrained
    if run.best.exists() and "step" in (best := load_checkpoint(run.best)):
        course["step"] = best["step"]
    return course


def _untrained(run: RunFolder) -> dict[str, float]:
    if not run.history.exists():
        return {}
    with run.history.open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file), {"step": ""})
    if first["step"] != "0":
        return {}
    figures = {name.removeprefix("val/"): value for name, value in first.items() if name.startswith("val/")}
    return {name: json.loads(value) for name, value in figures.items() if value}


def _write_embeddings(path: Path, records: Records, embeddings: Embeddings) -> None:
    is_query, is_gallery = _roles(records)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            vectors=embeddings.vectors.numpy(),
            labels=embeddings.labels.numpy(),
            class_names=np.array(records.class_names),
            files=np.array(records.files),
            is_query=is_query,
            is_gallery=is_gallery,
        )
    partial.replace(path)


def _roles(records: Records) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images search and which are found; every image does both unless the set has queries and a gallery."""
    if records.is_query is None:
        both = np.ones(len(records), dtype=bool)
        return both, both
    return records.is_query, ~records.is_query


def load_model(
    folder: Folder,
    *,
    checkpoint: str = "best",
    device: torch.device | str = "cpu",
    trust: Sequence[str] = (),
) -> EmbeddingModel:
    """The trained model of a run folder, in evaluation mode, with its ``preprocess``.

    Args:
        folder: a run folder, or what `dml share` made of one, also as ``hf:USER/NAME@revision`` on the Hugging Face
            Hub; a stranger's cannot run code, see docs/security.md.
        checkpoint: ``best`` or ``last``.
        device: ``auto`` is a GPU if there is one.
        trust: your own packages that its configuration may name.

    Raises:
        ConfigError: there is no such device.
        MissingFileError: the folder is no run folder, or the checkpoint has not been written.
        UntrustedError: the configuration names code that is not allowed.
        CheckpointError: the checkpoint is damaged, or it does not fit config.yaml.
        UnavailableError: it cannot be fetched from the Hub.
    """
    if isinstance(device, str):
        device = named_device(device)
    folder = local_folder(folder)
    cfg = load_config(RunFolder(folder).config, trust=trust)
    return trained_model(cfg, folder, checkpoint=checkpoint, device=device)


def trained_model(
    cfg: TrainConfig, folder: Folder, *, checkpoint: str = "best", device: torch.device | str = "cpu"
) -> EmbeddingModel:
    """The trained model of a run whose configuration is known already; errors as in load_model."""
    run = RunFolder(local_folder(folder))
    path = run.checkpoints / f"{checkpoint}.pt"
    if path.exists() or not (run.path / WEIGHTS).exists():
        state = load_checkpoint(path)
    else:
        path, state = run.path / WEIGHTS, read_weights(run.path, checkpoint)
    model = build_model(cfg, pretrained=False)
    load_part(model, state, "model", path)
    return model.to(device).eval()


def evaluate_run(
    folder: Folder,
    *,
    checkpoint: str = "best",
    data: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Measure a run again from its checkpoint: ``{"val": ..., "test": ...}``, or ``"train"`` as in metrics.json.

    Args:
        folder: a run folder.
        checkpoint: ``best`` or ``last``.
        data: where the data sets lie now, or the images themselves, see `move_data`; None where they lay in training.
        device: None takes that of the run's configuration.
        trust: as in load_model.

    Raises:
        MissingFileError: the run, its checkpoint or its data set is not there.
        InputError: data would move nothing.

    Warns where the images are not those that the run was measured on.
    """
    cfg = located_config(folder, data=data, device=device, trust=trust)
    splits = build_data(cfg)
    if others := data_differences(RunFolder(Path(folder)), splits, splits.val_name, "test"):
        warnings.warn(
            f"these are not the images that {folder} was measured on: {'; '.join(others)}", stacklevel=2
        )
    evaluator = build_evaluator(cfg, splits)
    model = trained_model(cfg, folder, checkpoint=checkpoint, device=choose_device(cfg))
    return {name: evaluator(model, records).metrics for name, records in splits.measured.items()}


def located_config(
    folder: Folder, *, data: str | None, device: str | None, trust: Sequence[str] = ()
) -> TrainConfig:
    """The configuration of a run, for the place and the machine where it is looked at now.

    Args:
        data: where the data sets lie now; None where they lay in training.
        device: None takes that of the run's configuration.
        trust: as in load_model.

    Raises:
        MissingFileError: the folder is no run folder.
    """
    cfg = load_config(RunFolder(local_folder(folder)).config, trust=trust)
    if data is not None:
        move_data(cfg, data)
    if device is not None:
        OmegaConf.update(cast(DictConfig, cfg), "trainer.device", device)
    return cfg


def load_metrics(folder: Folder) -> dict[str, dict[str, float]]:
    """The figures in ``metrics.json``, by the name of what was measured; dml/run_folder.py says which there are.

    Raises:
        MissingFileError: the run is not finished, or the folder is no run folder.
    """
    path = RunFolder(Path(folder)).metrics
    if not path.is_file():
        raise MissingFileError(
            f"no metrics at {path}: the run is not finished; go on with it by: {resume_command(folder)}"
        )
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: figures for name, figures in content.items() if isinstance(figures, dict)}


def kept_step(folder: Folder) -> int | None:
    """The step of ``best.pt`` of a finished run; None in the folder of a version that did not write it."""
    step = json.loads(RunFolder(Path(folder)).metrics.read_text(encoding="utf-8")).get("step")
    return None if step is None else int(step)


def _write_config(path: Path, plain: Mapping[str, Any]) -> None:
    _write_text(path, OmegaConf.to_yaml(OmegaConf.create(dict(plain))))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
