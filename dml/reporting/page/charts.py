"""Charts as SVG: lines over steps, histograms, and points in the plane.

Colours and strokes are CSS classes of the page, so that they follow its light and dark theme; series differ in their
dashes as well as in their colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

__all__ = ["Series", "histogram", "line_chart", "point_path"]

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 34
MOST_POINTS = 500  # of a line: more are not seen at this width


@dataclass(frozen=True)
class Series:
    """x, y: (n,); values that are not finite are left out. style: 1 to 6, colour and dash; faint: a thin pale line."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    style: int = 1
    faint: bool = False


def line_chart(
    series: Sequence[Series], *, title: str, x_label: str, percent: bool = False, mark: float | None = None
) -> Markup:
    """Lines over a common axis; mark: an x where a vertical line says which step was kept."""
    lines = [(s, *_finite(s)) for s in series]
    lines = [(s, x, y) for s, x, y in lines if len(x)]
    if not lines:
        return Markup("")
    xs, ys = np.concatenate([x for _, x, _ in lines]), np.concatenate([y for _, _, y in lines])
    frame = _Frame(_span(xs), _span(ys, zero=percent))
    body = [frame.axes(x_label, percent=percent)]
    if mark is not None:
        body.append(f'<path class="mark" d="M{frame.x(mark):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for s, x, y in lines:
        body.append(f'<path class="line s{s.style}{" faint" if s.faint else ""}" d="{frame.path(x, y)}"/>')
    return _figure(body, title, {s.name: f"s{s.style}{' faint' if s.faint else ''}" for s, _, _ in lines})


def histogram(
    parts: Mapping[str, NDArray[np.float64]], *, title: str, x_label: str, bins: NDArray[np.float64]
) -> Markup:
    """Shares of values by bin, as steps, each part scaled to 1 in sum."""
    shares = {name: np.histogram(values, bins)[0] / max(1, len(values)) for name, values in parts.items()}
    frame = _Frame((bins[0], bins[-1]), (0.0, max(float(s.max()) for s in shares.values()) or 1.0))
    body = [frame.axes(x_label, percent=True)]
    for style, share in enumerate(shares.values(), start=1):
        x, y = np.repeat(bins, 2), np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
        path = frame.path(x, y, thin=False)
        body.append(f'<path class="area a{style}" d="{path}Z"/><path class="line s{style}" d="{path}"/>')
    return _figure(body, title, {name: f"s{style}" for style, name in enumerate(shares, start=1)})


def point_path(points: NDArray[np.float64]) -> str:
    """Points (n, 2) as one path: each a line of no length, which round ends make a dot."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)


def _finite(series: Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = np.isfinite(series.x) & np.isfinite(series.y)
    return series.x[kept], series.y[kept]


def _span(values: NDArray[np.float64], *, zero: bool = False) -> tuple[float, float]:
    """The range of an axis, never empty."""
    low, high = float(values.min()), float(values.max())
    low = min(low, 0.0) if zero and low < 0.5 * high else low
    if low == high:
        return low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    return low, high


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers inside of a range, about so many."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


class _Frame:
    """From values to places in the image."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._x, self._y = x, (y[0], y[1] + 0.04 * (y[1] - y[0]))

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def path(self, x: NDArray[np.float64], y: NDArray[np.float64], *, thin: bool = True) -> str:
        if thin and len(x) > MOST_POINTS:
            chosen = np.linspace(0, len(x) - 1, MOST_POINTS).astype(int)
            x, y = x[chosen], y[chosen]
        return "M" + "L".join(f"{self.x(a):.1f} {self.y(b):.1f}" for a, b in zip(x, y, strict=True))

    def axes(self, x_label: str, *, percent: bool) -> str:
        parts = []
        for value in _ticks(*self._y, 4):
            y = self.y(value)
            text = f"{100 * value:.4g}%" if percent else f"{value:.4g}"
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for value in _ticks(*self._x, 5):
            parts.append(
                f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{value:.4g}</text>'
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
        return "".join(parts)


def _figure(body: Sequence[str], title: str, legend: Mapping[str, str]) -> Markup:
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 26 8" aria-hidden="true"><path class="line {style}" d="M1 4H25"/></svg>'
        f"{escape(name)}</span>"
        for name, style in legend.items()
        if name
    )
    chart = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'
    )
    below = f'<div class="legend">{keys}</div>' if keys else ""
    return Markup(f"<figure><figcaption>{escape(title)}</figcaption>{chart}{below}</figure>")
