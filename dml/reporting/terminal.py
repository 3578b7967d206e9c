"""What a person reads in the terminal: the final table, and what was measured or repeated again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dml.distributed import is_main
from dml.reporting.outcome import outcome
from dml.retrieval import metric
from dml.runs import load_metrics
from dml.verification import Verification

__all__ = [
    "metric_text",
    "metrics_table",
    "print_evaluation",
    "print_results",
    "print_verification",
]


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
