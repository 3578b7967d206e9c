"""Models that were shared: a folder with config.yaml and model.safetensors, here or on the Hugging Face Hub.

What is read holds no code: tensors, and a configuration that dml/trust.py looks through before anything is built.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from dml.errors import CheckpointError, InputError, MissingFileError, UnavailableError, user_files
from dml.migrations import FORMAT, migrate_checkpoint

__all__ = [
    "HUB",
    "WEIGHTS",
    "hub_name",
    "import_hub",
    "lasting_name",
    "local_folder",
    "read_weights",
    "write_weights",
]

HUB = "hf:"
WEIGHTS = "model.safetensors"
FETCHED = (
    "config.yaml",
    "environment.json",
    "metrics.json",
    "preprocess.json",
    "README.md",
    "LICENSES",
    WEIGHTS,
)
NAME = re.compile(r"[\w.-]+/[\w.-]+")


def hub_name(place: str) -> tuple[str, str | None]:
    """Name and revision of ``hf:USER/NAME@revision``.

    Raises:
        InputError: it is written otherwise.
    """
    name, at, revision = place.removeprefix(HUB).partition("@")
    if not NAME.fullmatch(name) or (at and not revision):
        raise InputError(
            f"{place} names no model: write hf:USER/NAME, or hf:USER/NAME@REVISION for a branch or commit"
        )
    return name, revision or None


def import_hub() -> Any:
    """The module huggingface_hub.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise UnavailableError(
            "models on the Hugging Face Hub need huggingface_hub, which is not installed: pip install 'dml-gsp[hub]'"
        ) from error
    return huggingface_hub


def local_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder itself; of ``hf:USER/NAME@revision`` a copy in the cache of huggingface_hub, which is fetched once.

    Raises:
        InputError: the name is written otherwise.
        UnavailableError: huggingface_hub is not installed, or the model cannot be fetched.
    """
    place = os.fspath(folder)
    if not place.startswith(HUB):
        return Path(folder)
    name, revision = hub_name(place)
    hub = import_hub()
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(FETCHED)))
    except Exception as error:  # of the hub, of its client for HTTP, of the disk
        raise UnavailableError(
            f"{place} cannot be fetched: {error}. Check its name and revision and the connection; a private one needs "
            "`hf auth login`"
        ) from error


def lasting_name(folder: str | os.PathLike[str]) -> str:
    """How a run or a shared model is found again from another working folder."""
    place = os.fspath(folder)
    return place if place.startswith(HUB) else os.path.abspath(place)


def read_weights(folder: Path, checkpoint: str) -> dict[str, Any]:
    """The weights of a shared model, as the part ``model`` of a checkpoint.

    Raises:
        MissingFileError: other ones than the best were asked for.
        CheckpointError: the file is damaged, or a newer version wrote it.
    """
    path = folder / WEIGHTS
    if checkpoint != "best":
        raise MissingFileError(
            f"no checkpoint {checkpoint} in {folder}: a shared model has its best one only; ask for that"
        )
    from safetensors import SafetensorError, safe_open

    try:
        with user_files(f"reading {path}"), safe_open(path, framework="pt") as file:
            format = int((file.metadata() or {}).get("dml_format", FORMAT))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; take another copy of it") from error
    return migrate_checkpoint({"format": format, "model": tensors}, str(path))


def write_weights(folder: Path, state: dict[str, Any], version: str) -> None:
    """Write the state of a model, each tensor to the last bit, with the version of dml that does so."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    metadata = {"format": "pt", "dml_format": str(FORMAT), "dml": version}
    (folder / WEIGHTS).write_bytes(save(tensors, metadata=metadata))
