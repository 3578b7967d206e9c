"""A published table as commands: which runs it needs, which of them are missing, and its rows."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from dml.composition import compose
from dml.config import ConfigError, read_config
from dml.devices import JOB, JOBS
from dml.errors import InputError
from dml.overrides import argument, train_command
from dml.reporting.comparison import Comparison, compare
from dml.reporting.results import Setting, find_runs, group_by_setting, missing_folds, settings_of
from dml.reporting.table_files import Table, TableRow

__all__ = [
    "Job",
    "NothingCompleteError",
    "check_jobs",
    "plan_jobs",
    "report_table",
    "report_tables",
    "run_jobs",
    "table_folders",
]


REHEARSED_CLASSES = 20  # of each part that is measured


class NothingCompleteError(InputError):
    """A table has no row yet; the message says what is missing."""


@dataclass(frozen=True)
class Job:
    """One run of a row of a table."""

    row: TableRow
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
        """What follows ``dml train``."""
        if self.state == "unfinished":
            return (argument("resume", self.folder),)
        return (*self.overrides, argument("hydra.run.dir", self.folder))

    @property
    def command(self) -> str:
        return train_command(*self.arguments)


def table_folders(
    tables: Sequence[Table], folder: str | None, *, limit: int | None = None
) -> dict[str, Path]:
    """Where the runs of each table lie, by its name: in the given folder, or below it if there are several tables.

    limit: as in plan_jobs; a rehearsal has a folder of its own.
    """
    if folder is not None and len(tables) == 1:
        return {tables[0].name: Path(folder)}
    short = "" if limit is None else f"_limit{limit}"
    return {table.name: Path(folder or "runs/tables") / f"{table.name}{short}" for table in tables}


def plan_jobs(table: Table, folder: Path, *, limit: int | None = None) -> list[Job]:
    """Every run of a table, each with its own folder; rows vary fastest, so that differences come early.

    Args:
        limit: steps of each run in a rehearsal; memories then start at once, and few classes are measured.

    Raises:
        ConfigError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit}: give the number of steps of each run, at least 1")
    short: tuple[str, ...] = ()
    if limit is not None:
        steps = (f"trainer.max_steps={limit}", f"trainer.eval_every={limit}", "memory.start_step=0")
        short = (*steps, f"evaluator.classes={REHEARSED_CLASSES}")
    folds: Sequence[int | None] = [None] if table.folds is None else range(table.folds)
    return [
        Job(
            row,
            row.folder(folder) / (f"seed{seed}" if fold is None else f"seed{seed}_fold{fold}"),
            (
                *row.overrides,
                *([] if fold is None else [f"protocol.fold={fold}"]),
                f"seed={seed}",
                *table.overrides,
                *short,
            ),
        )
        for seed in table.seeds
        for fold in folds
        for row in table.rows
    ]


def check_jobs(jobs: Iterable[Job]) -> None:
    """Refuse, before anything runs, commands that do not compose and folders that hold runs of other settings.

    Raises:
        ConfigError: an experiment or an override that does not exist, or a folder with another configuration.
    """
    wanted: dict[tuple[str, ...], dict[str, Any]] = {}  # the jobs of a row differ in seed and fold alone
    for job in jobs:
        if job.row.overrides not in wanted:
            wanted[job.row.overrides] = settings_of(compose(job.overrides))
        if job.state == "missing":
            continue
        found = settings_of(read_config(job.folder / "config.yaml"))
        for key, value in wanted[job.row.overrides].items():
            if value != "???" and found.get(key) != value:
                raise ConfigError(
                    f"{job.folder} holds a run with {key}={found.get(key)}, but the table has {value}: move that "
                    "folder away, or choose another by --folder"
                )


def run_jobs(jobs: Sequence[Job], *, processes: int) -> Iterator[str]:
    """Run what is not finished, some at a time, and give a line on each run when it ends.

    A run that fails does not stop the others. What a run prints goes to a .log beside its folder.

    Raises:
        ConfigError: fewer than one process.
    """
    if processes < 1:
        raise ConfigError(f"processes={processes}: give at least 1")
    from joblib import cpu_count  # 0.2 s to import, for those alone who run tables

    todo = [job for job in jobs if job.state != "finished"]
    threads = max(1, int(cpu_count()) // processes)
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


def report_tables(
    tables: Sequence[Table], folders: Mapping[str, Path], *, reading: str | None = None
) -> dict[str, tuple[list[Comparison], list[str]]]:
    """What report_table says of each table, by its name; of one without a complete row, only a note.

    Raises:
        InputError: as in report_table; nothing is complete in any of the tables.
    """
    reports: dict[str, tuple[list[Comparison], list[str]]] = {}
    for table in tables:
        try:
            reports[table.name] = report_table(table, folders[table.name], table.metrics, reading=reading)
        except NothingCompleteError as error:
            reports[table.name] = [], [str(error)]
    if not any(comparisons for comparisons, _ in reports.values()):
        raise NothingCompleteError("\n".join(note for _, notes in reports.values() for note in notes))
    return reports


def report_table(
    table: Table, folder: Path, metrics: Sequence[str], *, reading: str | None = None
) -> tuple[list[Comparison], list[str]]:
    """The tables of what is finished, a row per experiment, and notes on what is not.

    reading: as in compare.

    Raises:
        InputError: as in group_by_setting and compare.
        NothingCompleteError: no row is complete.
    """
    settings: list[Setting] = []
    notes: list[str] = []
    baselines: dict[str, str] = {}
    for group in table.groups:
        first, *others = (row.name for row in group)
        baselines |= dict.fromkeys(others, first)
        for row in group:
            name, place = row.name, row.folder(folder)
            if not any(place.rglob("config.yaml")):
                notes.append(f"not begun: {name}")
                continue
            finished, unfinished = find_runs(f"{glob.escape(str(place))}/**")
            notes += [f"unfinished, left out: {path}" for path in unfinished] + missing_folds(finished)
            settings += [replace(setting, label=name) for setting in group_by_setting(finished)]
    if not settings:
        raise NothingCompleteError("\n".join([f"nothing of the table in {folder} is complete yet:", *notes]))
    return compare(settings, metrics, baselines, reading=reading), notes


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
        command = [sys.executable, "-m", "dml", "train", *job.arguments]
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
    if code == 0:
        return f"{job.folder} took {time.monotonic() - begin:.0f} s"
    last = log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    return f"{job.folder} FAILED: {last} ({log})"
