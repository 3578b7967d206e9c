"""What the benchmarks share: rounds in turn, intervals of ratios, and the memory of a process."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = [
    "RETURN_FREED_MEMORY",
    "interleave",
    "interval",
    "name_of",
    "peak_in_new_process",
    "peak_of",
    "wait",
]

RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Environment of a process whose memory is measured: malloc maps every large block on its own."""


def interleave(steps: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each step returns, by its name, all in turn within each round, after a first one of each."""
    for run in steps.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, run in steps.items():
            times[name].append(run())
    return times


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median and its 95 % interval by order statistics."""
    ordered, n = sorted(values), len(values)
    k = max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)) - 1)
    return statistics.median(ordered), ordered[k], ordered[n - 1 - k]


def peak_in_new_process(script: str, *arguments: object) -> float:
    """MiB that ``python script --memory-of arguments`` prints, with freed memory really returned."""
    command = [sys.executable, script, "--memory-of", *map(str, arguments)]
    environment = {**os.environ, **RETURN_FREED_MEMORY}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def wait(device: torch.device | str) -> None:
    """Until the GPU has done what it was given; nothing on the CPU, which is done already."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def name_of(device: torch.device | str) -> str:
    """The GPU's name, or ``CPU``; a figure goes with it."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "CPU"


def peak_of(work: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """MiB at the peak of the work beyond what was held before: of resident memory, or of tensors on a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - held) / 2**20
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    work()
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
