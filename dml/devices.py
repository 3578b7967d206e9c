"""The device of a run, and how it computes: which GPU, in which precision, in which order, fed by how many workers."""

from __future__ import annotations

import os

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from dml.config import ConfigError, TrainConfig
from dml.distributed import local_rank, world_size

__all__ = [
    "JOB",
    "JOBS",
    "choose_device",
    "choose_workers",
    "describe_precision",
    "named_device",
    "prepare_device",
]

JOB, JOBS = "DML_JOB", "DML_JOBS"
"""Environment of runs that are started side by side on a machine: the number of this one, from 0, and how many."""

ACCEPTED = "accepted: auto, cpu, cuda, cuda:0, ..."
MOST_WORKERS = 8  # of a process: more fill the memory with batches that wait


def choose_device(cfg: TrainConfig) -> torch.device:
    """What ``trainer.device`` stands for; see named_device.

    Raises:
        ConfigError: no such device, or one GPU for several processes.
    """
    name = cfg.trainer.device
    device = named_device(name, "trainer.device")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"trainer.device={name} is not supported; {ACCEPTED}")
    return torch.device("cpu") if device.type == "cpu" else device


def named_device(name: str, key: str = "device") -> torch.device:
    """``auto`` is a GPU if there is one; a GPU without a number gets one.

    With several processes on a machine each takes its own, and runs that are started side by side are dealt out in
    turn. What ``CUDA_VISIBLE_DEVICES`` hides is not there. A number that is given is obeyed.

    Args:
        key: what the name was given by, for messages.

    Raises:
        ConfigError: no such device, or one GPU for several processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{key}={name} is no device; {ACCEPTED}") from error
    return _choose_gpu(key, name, device.index) if device.type == "cuda" else device


def _choose_gpu(key: str, name: str, index: int | None) -> torch.device:
    if not torch.cuda.is_available():
        raise ConfigError(f"{key}={name}, but torch sees no GPU here: use {key}=cpu or auto")
    if index is not None and _local_processes() > 1:
        raise ConfigError(
            f"{key}={name}, but {_local_processes()} processes on this machine need a GPU each: use "
            f"{key}=cuda or auto, and CUDA_VISIBLE_DEVICES to choose among the GPUs"
        )
    count = torch.cuda.device_count()
    if index is None:
        index = _deal(count)
    if index >= count:
        raise ConfigError(
            f"{key}={name}, but torch sees {count} GPUs here: start at most that many processes on this machine"
        )
    return torch.device("cuda", index)


def _deal(count: int) -> int:
    """The GPU of this process among ``count``."""
    if world_size() > 1:
        return local_rank()
    job = _job()
    return torch.cuda.current_device() if job is None else job % count


def _job() -> int | None:
    """The number of this run among those side by side; None if it is alone."""
    if JOB in os.environ:
        return _number(JOB)
    launcher = _launcher()
    if launcher is None or launcher.endswith("BasicLauncher"):  # which runs one job after the other
        return None
    return int(HydraConfig.get().job.num)


def _number(variable: str) -> int:
    text = os.environ[variable]
    if not text.isdecimal():
        raise ConfigError(
            f"the environment has {variable}={text}: give a whole number of 0 or more, or unset it"
        )
    return int(text)


def _launcher() -> str | None:
    """What Hydra starts the runs of a sweep with; None outside of a sweep."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return str(HydraConfig.get().launcher["_target_"])


def prepare_device(cfg: TrainConfig) -> torch.device:
    """The chosen device, made the current one, and computing as the configuration says, for the whole process.

    Without ``trainer.tf32`` float32 is float32 on a GPU too, in products of matrices and in convolutions, where torch
    by itself takes the 10 bits of TF32.

    Raises:
        ConfigError: as in choose_device.
    """
    device = choose_device(cfg)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # not by fp32_precision: torch.compile asks for what that makes torch refuse to answer
        torch.set_float32_matmul_precision("high" if cfg.trainer.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = cfg.trainer.tf32
        if cfg.trainer.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may add in any order
    torch.use_deterministic_algorithms(cfg.trainer.deterministic)
    return device


def describe_precision(device: torch.device) -> str:
    """What float32 is on a device now: ``float32``, ``tf32``, or ``mixed`` if products and convolutions differ."""
    if device.type != "cuda":
        return "float32"
    products = torch.get_float32_matmul_precision() != "highest"
    convolutions = torch.backends.cudnn.allow_tf32
    if products != convolutions:
        return "mixed"
    return "tf32" if products else "float32"


def choose_workers(cfg: TrainConfig, device: torch.device) -> int:
    """``auto`` is none on a CPU, which the model needs, and for a GPU the share of this process in the cores.

    One core is left to the process itself. Joblib's launcher cannot start workers.

    Raises:
        ConfigError: neither ``auto`` nor a number of 0 or above.
    """
    asked = cfg.num_workers
    if isinstance(asked, int) and asked >= 0:
        return asked
    if asked != "auto":
        raise ConfigError(f"num_workers={asked} must be auto, or 0 or above; 0 loads in the main process")
    if device.type == "cpu" or "joblib" in (_launcher() or ""):
        return 0
    from joblib import cpu_count  # knows the limits of containers; not needed on a CPU, and 0.2 s to import

    jobs = _number(JOBS) if JOBS in os.environ else 1
    share = int(cpu_count()) // max(1, jobs * _local_processes())
    return max(1, min(MOST_WORKERS, share - 1))


def _local_processes() -> int:
    """The processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world_size() > 1 else 1
