"""A published table as commands: which runs it needs, which of them are missing, and its rows."""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import hydra
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dml.config import ConfigError, TrainConfig, load_config, register_schema
from dml.devices import JOB, JOBS
from dml.reporting.comparison import Comparison, compare
from dml.reporting.results import Setting, find_runs, group_by_setting, missing_folds, settings_of

__all__ = [
    "Job",
    "TableDefinition",
    "check_jobs",
    "plan_jobs",
    "read_table",
    "report_table",
    "row_folder",
    "row_name",
    "run_jobs",
]

ROOT = Path(__file__).parents[2]


@dataclass
class TableDefinition:
    """What a file in configs/table/ says.

    groups:    rows; the first of a group is what the others of it are compared with. A row is an experiment, or one
               with overrides of its own behind it: ``collage/gsp pooling.sharpness=5``.
    overrides: what every command of the table has besides.
    folds:     models of an ensemble; None under a protocol without folds.
    """

    groups: list[list[str]] = MISSING
    overrides: list[str] = field(default_factory=list)
    folds: int | None = MISSING
    seeds: list[int] = MISSING
    metrics: list[str] = MISSING


@dataclass(frozen=True)
class Job:
    """One run of a row of a table."""

    row: str
    folder: Path
    overrides: tuple[str, ...]

    @property
    def state(self) -> str:
        """``finished``, ``unfinished`` or ``missing``."""
        if (self.folder / "metrics.json").exists():
            return "finished"
        return "unfinished" if (self.folder / "config.yaml").exists() else "missing"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows ``python train.py``."""
        if self.state == "unfinished":
            return (f"resume={self.folder}",)
        return (*self.overrides, f"hydra.run.dir={self.folder}")

    @property
    def command(self) -> str:
        return shlex.join(["python", "train.py", *self.arguments])


def read_table(name: str) -> TableDefinition:
    """The definition of a table by its name.

    Raises:
        ConfigError: there is no such table, or its file has a key, a type or a gap that the schema refuses.
    """
    folder = ROOT / "configs" / "table"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ConfigError(f"table={name} does not exist; accepted: {known}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(TableDefinition), OmegaConf.load(path))
        return cast(TableDefinition, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path} is no table: {str(error).splitlines()[0]}") from error


def plan_jobs(table: TableDefinition, folder: Path, *, limit: int | None = None) -> list[Job]:
    """Every run of a table, each with its own folder; rows vary fastest, so that differences come early.

    Args:
        limit: steps of each run in a rehearsal; memories then start at once.

    Raises:
        ConfigError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit}: give the number of steps of each run, at least 1")
    short = () if limit is None else (f"trainer.max_steps={limit}", f"trainer.eval_every={limit}")
    start = () if limit is None else ("memory.start_step=0",)
    folds: Sequence[int | None] = [None] if table.folds is None else range(table.folds)
    return [
        Job(
            row,
            row_folder(folder, row) / (f"seed{seed}" if fold is None else f"seed{seed}_fold{fold}"),
            (
                *row_overrides(row),
                *([] if fold is None else [f"protocol.fold={fold}"]),
                f"seed={seed}",
                *table.overrides,
                *short,
                *start,
            ),
        )
        for seed in table.seeds
        for fold in folds
        for group in table.groups
        for row in group
    ]


def check_jobs(jobs: Iterable[Job]) -> None:
    """Refuse, before anything runs, commands that do not compose and folders that hold runs of other settings.

    Raises:
        ConfigError: an experiment or an override that does not exist, or a folder with another configuration.
    """
    wanted: dict[str, dict[str, Any]] = {}  # the jobs of a row differ in seed and fold alone
    for job in jobs:
        if job.row not in wanted:
            wanted[job.row] = settings_of(_compose(job.overrides))
        if job.state == "missing":
            continue
        found = settings_of(load_config(job.folder / "config.yaml"))
        for key, value in wanted[job.row].items():
            if value != "???" and found.get(key) != value:
                raise ConfigError(
                    f"{job.folder} holds a run with {key}={found.get(key)}, but the table has {value}: move that "
                    "folder away, or choose another by folder="
                )


def run_jobs(jobs: Sequence[Job], *, processes: int) -> Iterator[str]:
    """Run what is not finished, some at a time, and give a line on each run when it ends.

    A run that fails does not stop the others. What a run prints goes to a .log beside its folder.

    Raises:
        ConfigError: fewer than one process.
    """
    if processes < 1:
        raise ConfigError(f"processes={processes}: give at least 1")
    todo = [job for job in jobs if job.state != "finished"]
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    places: SimpleQueue[int] = SimpleQueue()  # a run takes one, and with it its GPU, and gives it back
    for place in range(processes):
        places.put(place)
    with ThreadPoolExecutor(processes) as pool:
        futures = [pool.submit(_run, job, threads, places, processes) for job in todo]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                yield f"[{done}/{len(todo)}] {future.result()}"
        except BaseException:
            pool.shutdown(cancel_futures=True)  # those that run have had the same Ctrl-C, and save
            raise


def report_table(
    table: TableDefinition, folder: Path, metrics: Sequence[str]
) -> tuple[list[Comparison], list[str]]:
    """The tables of what is finished, a row per experiment, and notes on what is not.

    Raises:
        ValueError: as in group_by_setting, or nothing is complete.
    """
    settings: list[Setting] = []
    notes: list[str] = []
    baselines: dict[str, str] = {}
    for group in table.groups:
        first, *others = map(row_name, group)
        baselines |= dict.fromkeys(others, first)
        for row in group:
            name, place = row_name(row), row_folder(folder, row)
            if not any(place.rglob("config.yaml")):
                notes.append(f"not begun: {name}")
                continue
            finished, unfinished = find_runs(f"{glob.escape(str(place))}/**")
            notes += [f"unfinished, left out: {path}" for path in unfinished] + missing_folds(finished)
            settings += [replace(setting, label=name) for setting in group_by_setting(finished)]
    if not settings:
        raise ValueError("\n".join([f"nothing of the table in {folder} is complete yet:", *notes]))
    return compare(settings, metrics, baselines), notes


def row_name(row: str) -> str:
    """The name of a row inside its table."""
    experiment, *overrides = row.split()
    return " ".join([experiment.rpartition("/")[2], *overrides])


def row_overrides(row: str) -> tuple[str, ...]:
    """What a row says to ``python train.py``."""
    experiment, *overrides = row.split()
    return f"experiment={experiment}", *overrides


def row_folder(folder: Path, row: str) -> Path:
    """Where the runs of a row lie in the folder of its table."""
    return folder / re.sub(r"[^\w.]+", "_", row_name(row))


def _compose(overrides: Sequence[str]) -> TrainConfig:
    register_schema()
    try:
        with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return cast(TrainConfig, hydra.compose("train", list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"python train.py {shlex.join(overrides)} does not compose: {error}") from error


def _run(job: Job, threads: int, places: SimpleQueue[int], processes: int) -> str:
    """Run one job to its end, in one of the places side by side; the line says how it went."""
    place = places.get()
    try:
        return _run_at(job, threads, {JOB: str(place), JOBS: str(processes)})
    finally:
        places.put(place)


def _run_at(job: Job, threads: int, place: dict[str, str]) -> str:
    log = job.folder.with_name(f"{job.folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, **place}
    begin = time.monotonic()
    with log.open("a", encoding="utf-8") as output:
        output.write(f"{job.command}\n")
        output.flush()
        command = [sys.executable, str(ROOT / "train.py"), *job.arguments]
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
    if code == 0:
        return f"{job.folder} took {time.monotonic() - begin:.0f} s"
    last = log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    return f"{job.folder} FAILED: {last} ({log})"
