"""What a threshold costs and brings, drawn: precision and recall of the validation classes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dml.index.calibration import Calibration
from dml.index.pairs import rates_at, thresholds_of

__all__ = ["draw_calibration"]

POINTS = 400


def draw_calibration(calibration: Calibration) -> Figure:
    """Precision and recall over the threshold, and the one that was chosen with its interval."""
    record, pairs = calibration.record, calibration.pairs
    lowest = min(float(np.quantile(pairs.same, 0.02)), record.low)
    values = np.linspace(max(lowest, float(pairs.other[-1])), float(max(pairs.same[0], record.high)), POINTS)
    rates = rates_at(pairs, thresholds_of(pairs, values))
    figure = Figure((6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(record.low, record.high, color="0.88", label="95 % interval of the threshold")
    axes.axvline(record.threshold, color="0.3", linewidth=1)
    axes.plot(values, rates.precision(record.prevalence), label="precision", color="#1b6ca8")
    axes.plot(values, rates.recall, label="recall", color="#c8681e", linestyle="dashed")
    axes.set(xlabel="threshold of the similarity", ylim=(-0.02, 1.02), xlim=(values[0], values[-1]))
    axes.set_title(
        f"{record.classes} validation classes, 1 of {1 / record.prevalence:,.0f} pairs is right",
        fontsize="medium",
    )
    axes.legend(fontsize="small", loc="best")
    return figure
