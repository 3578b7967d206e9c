"""What a run was executed on: all that is needed, beside the configuration, to repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from dml.distributed import world_size

__all__ = ["describe_environment"]

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


def describe_environment(*, seed: int, device: torch.device) -> dict[str, Any]:
    """Versions, machine, source, command line and seed, as plain values."""
    on_gpu = device.type == "cuda"
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "cpu",
        "cuda": torch.version.cuda if on_gpu else None,
        "processes": world_size(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
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
