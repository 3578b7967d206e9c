"""What a person reads in the terminal: the final table, and errors as sentences."""

from __future__ import annotations

import errno
import functools
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue
from rich.console import Console
from rich.table import Table

from dml.distributed import is_main, rank, world_size
from dml.errors import UserError, raised_in_dml
from dml.overrides import resume_command
from dml.reporting.lost_output import is_output_lost
from dml.reporting.outcome import outcome
from dml.reporting.surroundings import accept_any_text
from dml.retrieval import metric
from dml.run_folder import RunFolder
from dml.runs import load_metrics
from dml.training import Interrupted
from dml.verification import Verification

__all__ = [
    "metric_text",
    "metrics_table",
    "print_evaluation",
    "print_results",
    "print_verification",
    "readable_errors",
]

USER_ERRORS = (UserError, MissingMandatoryValue, InterpolationResolutionError)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
P = ParamSpec("P")
R = TypeVar("R")


def print_results(folder: str | os.PathLike[str]) -> None:
    """Print the metrics of a finished run, what came of it, and where it lies; the main process does."""
    if not is_main():
        return
    console = Console()
    console.print(metrics_table(load_metrics(folder)))
    for sentence in outcome(Path(folder)):
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)
    console.print(f"run folder: {folder}", soft_wrap=True, highlight=False, markup=False)


def print_evaluation(
    folder: str | Path, metrics: Mapping[str, Mapping[str, float]], *, compare: bool
) -> bool:
    """Print metrics that were measured again, and whether they equal those of the run to the last digit.

    Returns whether they do, or True if they are not to be compared.
    """
    console = Console()
    console.print(metrics_table(metrics))
    if not compare:
        return True
    stored = load_metrics(folder)
    differences = [
        f"{split} {name}: {stored[split][name]!r} in metrics.json, {value!r} now"
        for split in metrics
        for name, value in metrics[split].items()
        if stored[split][name] != value
    ]
    verdict = "\n".join(differences) or f"equal to {Path(folder) / 'metrics.json'} to the last digit"
    console.print(verdict, soft_wrap=True, markup=False)
    return not differences


def print_verification(verification: Verification) -> bool:
    """Print whether repeated steps are identical to the recorded ones, else where they part and what may be why.

    Returns whether they are.
    """
    console = Console()
    different = [step for step, (then, now) in verification.steps.items() if repr(then) != repr(now)]
    if not different:
        console.print(
            f"identical: loss and gradient norm of {len(verification.steps)} steps, to the last bit"
        )
        return True
    (loss, norm), (loss_now, norm_now) = verification.steps[different[0]]
    lines = [
        f"different from step {different[0]} on, {len(different)} of {len(verification.steps)} steps:",
        f"  loss          {loss!r} recorded, {loss_now!r} now",
        f"  gradient norm {norm!r} recorded, {norm_now!r} now",
        *(f"  {key}: {then} then, {now} now" for key, (then, now) in verification.environment.items()),
    ]
    if not verification.environment:
        lines.append(
            "  the environment is the same: on a GPU try trainer.deterministic=true, else this is a defect"
        )
    console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)
    return False


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> Table:
    """One column per set of images, one row per metric, in per cent; counts as they are."""
    title = "classes never seen in training" + (", and the train images" if "train" in metrics else "")
    if "train" in metrics and "test" not in metrics:
        title = "the images that it was trained on"
    validated = next(iter(metrics))
    titles = {"untrained": f"{validated}, untrained"}
    columns = sorted(metrics, key=lambda split: split != "untrained")
    table = Table(
        "metric", *(titles.get(split, split) for split in columns), title=title, title_justify="left"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name in dict.fromkeys(name for figures in metrics.values() for name in figures):
        table.add_row(name, *(metric_text(name, metrics[split].get(name)) for split in columns))
    return table


def metric_text(name: str, value: float | None) -> str:
    """A figure of metrics.json for people: in per cent, a count as it is; empty for one that is not there."""
    if value is None:
        return ""
    return metric(name).shown(value)


def readable_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with one sentence where the user can mend the cause.

    Everything else is a defect of dml or of a library: its traceback is shown, and a sentence that says what was being
    done, where to report it and how the run goes on. ``DML_TRACEBACK=1`` lets every error through as it is.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        accept_any_text()
        try:
            result = command(*args, **kwargs)
            # a run has its folder, other commands have what they print
            if is_output_lost() and not HydraConfig.initialized():
                sys.exit(1)
            return result
        except Interrupted as request:
            if is_main():
                sys.stderr.write(f"{request}\n")
            sys.exit(request.exit_status)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; a run that has begun goes on with resume=FOLDER\n")
            sys.exit(130)
        except Exception as error:
            if os.environ.get("DML_TRACEBACK"):
                raise
            process = f"process {rank()} of {world_size()}: " if world_size() > 1 else ""
            users = _is_users(error)
            if not users:
                traceback.print_exception(error)
            sys.stderr.write(f"{process}error: {error if users else _defect(error)}\n")
            _remove_empty_folder()
            if _in_sweep():
                raise  # Hydra goes on with the other runs and reports the failure after them
            sys.exit(2 if users else 1)

    return wrapped


def _is_users(error: Exception) -> bool:
    """Whether the user can mend it, and needs no traceback for that."""
    full_disk = isinstance(error, OSError) and error.errno in FULL_DISK
    return isinstance(error, USER_ERRORS) or full_disk


def _defect(error: Exception) -> str:
    """One sentence after the traceback of what nobody expected."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    where = "dml" if raised_in_dml(error) else "dml or of a library below it"
    return (
        f"{command} ended by {type(error).__name__}, a defect of {where}: please report it, with all of the above, "
        f"where you got dml from{_way_on()}"
    )


def _way_on() -> str:
    """How the run goes on, if there is one that has saved a checkpoint."""
    if not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get()
    typed = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
    named = [str(override.value()) for override in typed if override.key_or_group == "resume"]
    folder = named[-1] if named and named[-1] != "auto" else hydra.runtime.output_dir
    if not RunFolder(Path(folder)).last.exists():
        return ""
    return f"; the run goes on from its last checkpoint by: {resume_command(folder)}"


def _remove_empty_folder() -> None:
    """The folder that Hydra made for a run which was refused before it wrote anything."""
    if HydraConfig.initialized():
        with suppress(OSError):  # it is not empty, or not there
            Path(HydraConfig.get().runtime.output_dir).rmdir()


def _in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
