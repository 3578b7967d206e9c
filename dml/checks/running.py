"""From a file to its group, its configuration and the tests of that group."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dml.checks import backbone, dataset, logger, loss, metric, others, pooling
from dml.checks.attempt import Attempt, Attempts
from dml.composition import compose
from dml.config import groups
from dml.errors import InputError, MissingFileError
from dml.installation import CONFIGS

__all__ = ["Finding", "check_file"]

TESTS: Mapping[str, Attempts] = {
    "backbone": backbone.attempts,
    "dataset": dataset.attempts,
    "logger": logger.attempts,
    "loss": loss.attempts,
    "metric": metric.attempts,
    "pooling": pooling.attempts,
}


class Finding(NamedTuple):
    """promise: what was tried; problem: why it does not hold, None if it does."""

    promise: str
    problem: str | None


def check_file(path: str | Path, overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """Run the contract tests of the part that a file describes, one after another.

    Args:
        path: ``DIR/GROUP/NAME.yaml``.
        overrides: what else is chosen, as behind ``dml train``.

    Raises:
        MissingFileError: there is no such file.
        InputError: it lies in the folder of no group.
        ConfigError: it does not compose with the rest of a configuration.
    """
    folder, group, choice = _place(Path(path))
    search = [] if folder == CONFIGS.resolve() else [f"hydra.searchpath=['file://{folder}']"]
    cfg = compose([f"{group}={choice}", *search, *overrides])
    yield Finding(f"composes as {group}={choice}", None)
    for attempt in TESTS.get(group, others.of_group(group))(cfg):
        problem = _problem(attempt)
        yield Finding(attempt.promise, problem)
        if problem and attempt.vital:
            return


def _place(path: Path) -> tuple[Path, str, str]:
    """The folder of configurations, the group and the choice that a file is."""
    if path.suffix != ".yaml" or not path.is_file():
        raise MissingFileError(f"no file {path}: give that of a part, such as my_configs/pooling/mine.yaml")
    known = groups()
    for folder in path.resolve().parents:
        if folder.name in known:
            choice = path.resolve().relative_to(folder).with_suffix("").as_posix()
            return folder.parent, folder.name, choice
    raise InputError(
        f"{path} lies in the folder of no group: a file is DIR/GROUP/NAME.yaml, and GROUP one of "
        f"{', '.join(sorted(known))}"
    )


def _problem(attempt: Attempt) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return attempt.run()
    except Exception as error:
        kind = "" if isinstance(error, (InputError, MissingFileError)) else f"{type(error).__name__}: "
        return f"{kind}{error}"
