"""Which similarity is a match: a threshold from classes that were never trained on, with its interval.

A similarity by itself says little: unrelated images of a trained model can have 0.9. The validation classes of a run
tell what it means, since none of them was trained on. Precision depends on how rare right pairs are, so it is always
said for which share of right pairs it holds: that of the validation classes, or one right item in a catalogue of N.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dml.assembly import build_data
from dml.devices import choose_device
from dml.errors import InputError
from dml.index.calibration_file import CalibrationRecord
from dml.index.fingerprint import fingerprint_of
from dml.index.pairs import Pairs, Thresholds, rates_at, similar_pairs, thresholds_of
from dml.index.parts import embed_part
from dml.randomness import numpy_generator
from dml.runs import located_config, trained_model

__all__ = ["Aim", "Calibration", "calibrate", "calibrate_pairs", "opis", "threshold_for"]

FEWEST_CLASSES = 10  # with fewer, resampling them says little of those that are not there
REPLICATES = 500
THRESHOLDS = 2**14  # that are tried, at most
CONFIDENCE = 0.95
CALIBRATION_RANGE = (1e-3, 1e-2)  # of the false-match rate, over which thresholds are compared for OPIS
STEPS = 200
CATALOGUES = (10, 100, 1_000, 10_000, 100_000)
FEWEST_WRONG = 10  # pairs of two classes that reach a threshold, for it to mean something


class Aim(NamedTuple):
    """What a threshold is to keep.

    name:       ``precision``: the least share of matches that are right; ``false_match_rate``: the largest share of
                pairs of two classes that match.
    value:      of it, between 0 and 1.
    prevalence: share of pairs that are of one class.
    """

    name: str
    value: float
    prevalence: float

    @property
    def most(self) -> tuple[float, float]:
        """a and b, so that the aim is kept where the false-match rate is at most ``a recall + b``."""
        if self.name == "false_match_rate":
            return 0.0, self.value
        odds = self.prevalence / (1 - self.prevalence)
        return odds * (1 - self.value) / self.value, 0.0


@dataclass(frozen=True)
class Calibration:
    """The record that is kept, and what it was measured on.

    pairs:      of the validation classes.
    catalogues: for catalogues of other sizes, N -> threshold and recall; None where too few wrong pairs were seen.
    """

    record: CalibrationRecord
    pairs: Pairs
    catalogues: Mapping[int, tuple[float, float] | None]


def calibrate(
    run: str | os.PathLike[str],
    *,
    precision: float | None = None,
    false_match_rate: float | None = None,
    catalogue: int | None = None,
    checkpoint: str = "best",
    data: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> Calibration:
    """The lowest similarity at which matches of a run's validation classes are as good as asked; nothing is written.

    Args:
        run: a run folder.
        precision, false_match_rate: one of them, between 0 and 1.
        catalogue: the number of items that a query is compared with, one of which is right; None takes the share of
            right pairs of the validation classes.
        checkpoint, data, device, trust: as in `evaluate_run`.

    Raises:
        InputError: the run has no validation classes, or too few for an interval; or no threshold keeps what is asked.
        MissingFileError: the run, its checkpoint or its data set is not there.
    """
    _check_wish(precision, false_match_rate, catalogue)  # before a data set is read
    cfg = located_config(run, data=data, device=device, trust=trust)
    splits = build_data(cfg)
    if not splits.val_chooses:
        raise InputError(
            f"{run} has no validation classes, its validation images are those that it was trained on: a threshold "
            "from them would promise too much; calibrate a run of protocol=holdout"
        )
    model = trained_model(cfg, run, checkpoint=checkpoint, device=choose_device(cfg))
    return calibrate_pairs(
        similar_pairs(embed_part(cfg, model, splits.val), splits.val.labels),
        fingerprint=fingerprint_of(model),
        precision=precision,
        false_match_rate=false_match_rate,
        catalogue=catalogue,
    )


def calibrate_pairs(
    pairs: Pairs,
    *,
    fingerprint: str,
    precision: float | None = None,
    false_match_rate: float | None = None,
    catalogue: int | None = None,
    replicates: int = REPLICATES,
) -> Calibration:
    """The same for the pairs of any classes; errors as of calibrate."""
    name, value = _check_wish(precision, false_match_rate, catalogue)
    if (classes := int((pairs.sizes > 1).sum())) < FEWEST_CLASSES:
        raise InputError(
            f"the validation has {classes} classes of two images or more, and an interval over classes needs at least "
            f"{FEWEST_CLASSES}: train on more classes, or with a larger protocol.fraction"
        )
    measured = len(pairs.same) / (len(pairs.same) + pairs.others)
    aim = Aim(name, value, measured if catalogue is None else 1 / catalogue)
    threshold = threshold_for(pairs, aim)
    if not np.isfinite(threshold):
        best = rates_at(pairs, thresholds_of(pairs, pairs.same[:1])) if aim.name == "precision" else None
        reached = f": the most similar pairs reach {best.precision(aim.prevalence)[0]:.3f}" if best else ""
        raise InputError(
            f"no similarity has a {aim.name.replace('_', ' ')} of {aim.value:g} where 1 of {1 / aim.prevalence:,.0f} "
            f"pairs is right{reached}; ask for less, or for a smaller catalogue"
        )
    low, high = _interval(pairs, aim, threshold, replicates)
    rates = rates_at(pairs, thresholds_of(pairs, np.array([threshold])))
    record = CalibrationRecord(
        fingerprint=fingerprint,
        threshold=threshold,
        low=low,
        high=high,
        aim=aim.name,
        asked=aim.value,
        precision=float(rates.precision(aim.prevalence)[0]),
        recall=float(rates.recall[0]),
        false_match_rate=float(rates.false_match[0]),
        catalogue=catalogue,
        prevalence=aim.prevalence,
        classes=len(pairs.sizes),
        images=int(pairs.sizes.sum()),
        pairs=len(pairs.same) + pairs.others,
        opis=opis(pairs),
    )
    sizes = CATALOGUES if aim.name == "precision" else ()  # a false-match rate is the same for all
    return Calibration(record, pairs, {size: _for_catalogue(pairs, aim, size) for size in sizes})


def _for_catalogue(pairs: Pairs, aim: Aim, size: int) -> tuple[float, float] | None:
    threshold = threshold_for(pairs, aim._replace(prevalence=1 / size))
    reached = thresholds_of(pairs, np.array([threshold]))
    if reached.other[0] < FEWEST_WRONG or not np.isfinite(threshold):
        return None
    return threshold, float(rates_at(pairs, reached).recall[0])


def threshold_for(
    pairs: Pairs, aim: Aim, weights: NDArray[np.float64] | None = None, tried: Thresholds | None = None
) -> float:
    """The lowest similarity of a pair of one class at which the aim is kept; infinity if there is none.

    weights: (C,), how many times each class counts; tried: what `tried_on` gives, where it is asked for many times.
    """
    tried = tried or tried_on(pairs)
    rates = rates_at(pairs, tried, weights)
    a, b = aim.most
    kept = np.flatnonzero((rates.recall > 0) & (rates.false_match <= a * rates.recall + b))
    return float(tried.values[kept[-1]]) if len(kept) else np.inf


def tried_on(pairs: Pairs) -> Thresholds:
    """The similarities of pairs of one class, or of a part of them, falling."""
    return thresholds_of(pairs, pairs.same[:: max(1, len(pairs.same) // THRESHOLDS)])


def opis(pairs: Pairs) -> float:
    """How much the utility of one threshold differs from class to class, Operating-Point-Inconsistency Score.

    ``mean over c and t of (U_c(t) - mean_c U_c(t))²``, with U the harmonic mean of the recall of a class and the share
    of its pairs with other classes that do not match; t runs over the thresholds whose false-match rate, over all
    classes, is between 0.1 % and 1 %. 0 if every class behaves alike. Compare it over the same range only.
    Source: Zhang et al., "Threshold-Consistent Margin Loss for Open-World Deep Metric Learning", 2024.
    """
    low, high = (
        pairs.other[min(len(pairs.other) - 1, int(rate * pairs.others))] for rate in CALIBRATION_RANGE[::-1]
    )
    total = int(pairs.sizes.sum())
    utilities = []
    for c in np.flatnonzero(pairs.sizes > 1):
        own = pairs.same[pairs.same_class == c]
        others = pairs.other[(pairs.other_classes == c).any(axis=1)]
        steps = np.linspace(low, high, STEPS)
        recall = _share(own, steps, len(own))
        kept_apart = 1 - _share(others, steps, int(pairs.sizes[c]) * (total - int(pairs.sizes[c])))
        utilities.append(2 * recall * kept_apart / np.maximum(recall + kept_apart, np.finfo(float).tiny))
    return float(np.var(np.stack(utilities), axis=0).mean())


def _share(falling: NDArray[np.float32], steps: NDArray[np.float64], total: int) -> NDArray[np.float64]:
    reach: NDArray[np.float64] = (len(falling) - np.searchsorted(falling[::-1], steps)) / total
    return reach


def _check_wish(
    precision: float | None, false_match_rate: float | None, catalogue: int | None
) -> tuple[str, float]:
    """The name of what is asked, and its value."""
    if (precision is None) == (false_match_rate is None):
        raise InputError("ask for a precision or for a false-match rate, as in --precision 0.95")
    name = "precision" if precision is not None else "false_match_rate"
    value = precision if precision is not None else false_match_rate
    assert value is not None
    if not 0 < value < 1:
        raise InputError(
            f"{name.replace('_', '-')} {value}: give a share between 0 and 1, as in 0.95 or 0.001"
        )
    if catalogue is not None and catalogue < 2:
        raise InputError(
            f"catalogue {catalogue}: give the number of items that a query is compared with, at least 2"
        )
    return name, value


def _interval(pairs: Pairs, aim: Aim, threshold: float, replicates: int) -> tuple[float, float]:
    """The thresholds at which a test does not tell whether the aim is kept: those between surely not and surely.

    Classes are drawn with replacement; one that is drawn twice counts twice, and its copies are no pair of two
    classes. What was not seen may exist: each draw adds as many pairs as one more class, or one more pair of classes,
    brings, times a number from the exponential distribution. So the interval is no shorter where few were seen, as one
    of Poisson counts is not.
    """
    generator = numpy_generator("calibrate", len(pairs.sizes))
    classes = len(pairs.sizes)
    a, b = aim.most
    tried = tried_on(pairs)
    unseen_right, unseen_wrong = _unseen(pairs, threshold)
    surely, perhaps = np.zeros(len(tried.values)), np.zeros(len(tried.values))
    for _ in range(replicates):
        counts = generator.multinomial(classes, np.full(classes, 1 / classes)).astype(np.float64)
        rates = rates_at(pairs, tried, counts)
        right, wrong = generator.exponential(size=2) * (unseen_right, unseen_wrong)
        surely += rates.false_match + wrong <= a * rates.recall + b
        perhaps += rates.false_match <= a * (rates.recall + right) + b
    tail = (1 - CONFIDENCE) / 2 * replicates
    is_sure = np.flatnonzero((surely >= replicates - tail) & (tried.values >= threshold))
    is_possible = np.flatnonzero((perhaps > tail) & (tried.values <= threshold))
    low = tried.values[is_possible[-1]] if len(is_possible) else threshold
    high = tried.values[is_sure[-1]] if len(is_sure) else 1.0
    return float(low), float(max(high, threshold))


def _unseen(pairs: Pairs, threshold: float) -> tuple[float, float]:
    """What one more class adds to the recall, and one more pair of classes to the false-match rate, at a threshold."""
    reached = thresholds_of(pairs, np.array([threshold]))
    right = pairs.same_class[: reached.same[0]]
    wrong = pairs.other_classes[: reached.other[0]]
    per_class = len(right) / max(1, len(np.unique(right)))
    per_pair = len(wrong) / max(1, len(np.unique(np.sort(wrong, axis=1), axis=0)))
    return max(1.0, per_class) / len(pairs.same), max(1.0, per_pair) / pairs.others
