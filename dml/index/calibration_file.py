"""What `dml calibrate` found, as it is kept in the run and in the indexes that are made from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dml.errors import InputError, user_files
from dml.index.layout import IndexInfo, write_whole

__all__ = ["FILE", "CalibrationRecord", "calibration_for", "read_calibration", "write_calibration"]

FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """A threshold of the similarity, and what it promises.

    fingerprint: of the model; the threshold is of no use to another.
    threshold:   a pair that is at least as similar is a match.
    low, high:   95 % interval of the threshold, by a bootstrap over the classes.
    aim:         ``precision`` or ``false_match_rate``.
    asked:       the value of it that was asked for.
    precision:   share of the matches that are right.
    recall:      share of the pairs of a class that match.
    false_match_rate: share of the pairs of two classes that match.
    catalogue:   the size of the catalogue that a query is compared with, one item of which is right; None where the
                 ratio of pairs is that of the validation classes.
    prevalence:  share of the pairs that are of a class, for which all this holds: 1 / catalogue, or as measured.
    classes, images, pairs: that it was measured on.
    opis:        how much the best threshold differs from class to class; see `dml.index.calibration.opis`.
    """

    fingerprint: str
    threshold: float
    low: float
    high: float
    aim: str
    asked: float
    precision: float
    recall: float
    false_match_rate: float
    catalogue: int | None
    prevalence: float
    classes: int
    images: int
    pairs: int
    opis: float


def write_calibration(run: str | os.PathLike[str], record: CalibrationRecord) -> Path:
    """Keep it in a run folder; returns the file."""
    path = Path(run) / FILE
    with user_files(f"writing {path}"):
        write_whole(path, (json.dumps(asdict(record), indent=2) + "\n").encode())
    return path


def read_calibration(run: str | os.PathLike[str]) -> CalibrationRecord | None:
    """What is kept in a run folder; None if nothing is.

    Raises:
        InputError: the file is damaged.
    """
    path = Path(run) / FILE
    if not path.is_file():
        return None
    try:
        with user_files(f"reading {path}"):
            return _record(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}): remove it, and calibrate again") from error


def calibration_for(info: IndexInfo, run: str | os.PathLike[str]) -> CalibrationRecord | None:
    """The threshold for an index: that of its run now, or else the one that it carries; never one of another model."""
    carried = None if info.calibration is None else _record(info.calibration)
    for record in (read_calibration(run), carried):
        if record is not None and record.fingerprint == info.fingerprint:
            return record
    return None


def _record(content: Mapping[str, Any]) -> CalibrationRecord:
    return CalibrationRecord(**{field.name: content[field.name] for field in fields(CalibrationRecord)})
