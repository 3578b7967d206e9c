"""What a run was executed on: all that is needed, beside the configuration, to repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import dml
from dml.command_line import command_line
from dml.devices import describe_precision
from dml.distributed import world_size

__all__ = ["describe_environment"]

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "pytorch-metric-learning",
    "faiss-cpu",
    "hydra-core",
    "numpy",
    "pillow",
)

BESIDE = ("train.py", "configs/pooling/gsp.yaml")
"""What lies beside the package in a checkout of this project, whatever it is called, and not beside a copy of it."""


def describe_environment(
    *, seed: int, device: torch.device, num_workers: int, search_backend: str
) -> dict[str, Any]:
    """Versions, machine, device, source, command line and seed, as plain values.

    num_workers: the processes that load images; search_backend: what searches.
    """
    on_gpu = device.type == "cuda"
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "command": command_line(),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "cpu",
        "device_index": device.index if on_gpu else None,
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES") if on_gpu else None,
        "float32": describe_precision(device),
        "cuda": torch.version.cuda if on_gpu else None,
        "search_backend": search_backend,
        "processes": world_size(),
        "num_workers": num_workers,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "git_revision": _git("rev-parse", "HEAD"),
        "git_modified": None if status is None else bool(status),
        "packages": {"dml": dml.__version__} | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # installed under another name, such as faiss from conda
        return None


def _git(*arguments: str) -> str | None:
    """What git says of this source tree; None outside of a checkout of this project, or without git.

    A repository that merely has the package in it, in an environment or copied, is another project's.
    """
    root = Path(__file__).resolve().parents[1]
    if not _is_own(root):
        return None
    return _ask_git(root, *arguments)


def _is_own(root: Path) -> bool:
    top = _ask_git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return False
    return all((root / part).is_file() for part in BESIDE)


def _ask_git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_")
    }  # as in hooks
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
