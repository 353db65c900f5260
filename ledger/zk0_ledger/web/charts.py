"""Line charts as coordinates, which a template draws as inline SVG.

Drawn here and by no charting library: those that draw SVG on a server bring a stack of numerics and fonts
(matplotlib), or style blocks and scripts inside the picture (pygal, plotly), which the page's security policy
forbids and a screen reader cannot use. One kind of chart is all that a page needs, and the same numbers stand
in a table beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log10

WIDTH, HEIGHT = 400, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 38
_TICKS = 4
_MOST_LABELS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values over the labels of a chart; None where there is none."""

    name: str
    values: Sequence[float | None]
    style: str = "main"
    """`main` draws a line with dots, `dots` dots alone."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One value at its place, with its words."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series as drawn."""

    name: str
    style: str
    paths: Sequence[str]
    """`points` of polylines, broken where values are missing."""
    dots: Sequence[Dot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart ready to be drawn in WIDTH x HEIGHT."""

    key: str
    """Unique on its page."""
    title: str
    description: str
    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    zero: float | None
    """Where zero is, if it lies inside."""
    x_name: str
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def line_chart(
    key: str, title: str, x_name: str, labels: Sequence[str], series: Sequence[Series]
) -> Chart | None:
    """Return the chart of `series` over `labels`, None without a single value."""
    values = [value for one in series for value in one.values if value is not None and isfinite(value)]
    if not values:
        return None
    ticks = _nice_ticks(min(0.0, *values), max(0.0, *values))
    low, high = ticks[0], ticks[-1]
    places = _places(len(labels))

    def height(value: float) -> float:
        share = (value - low) / (high - low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def line(one: Series) -> Line:
        dots = [
            None
            if value is None or not isfinite(value)
            else Dot(round(x, 1), height(value), f"{label}: {value:+.6f}")
            for x, label, value in zip(places, labels, one.values, strict=True)
        ]
        return Line(
            name=one.name,
            style=one.style,
            paths=_paths(dots) if one.style == "main" else (),
            dots=[dot for dot in dots if dot is not None],
        )

    step = max(1, ceil(len(labels) / _MOST_LABELS))
    digits = max(0, -floor(log10(ticks[1] - ticks[0])))
    return Chart(
        key=key,
        title=title,
        description=_description(labels, series),
        lines=[line(one) for one in series],
        x_ticks=[Tick(round(places[i], 1), labels[i]) for i in range(0, len(labels), step)],
        y_ticks=[Tick(height(tick), f"{tick:.{digits}f}") for tick in ticks],
        zero=height(0.0),
        x_name=x_name,
    )


def _places(count: int) -> list[float]:
    """Return where labels stand: from edge to edge, a single one in the middle."""
    inner = WIDTH - _LEFT - _RIGHT
    if count == 1:
        return [_LEFT + inner / 2]
    return [_LEFT + inner * index / (count - 1) for index in range(count)]


def _paths(dots: Sequence[Dot | None]) -> list[str]:
    """Return one `points` attribute for each run of values without a gap."""
    runs: list[list[Dot]] = [[]]
    for dot in dots:
        if dot is None:
            runs.append([])
        else:
            runs[-1].append(dot)
    return [" ".join(f"{dot.x},{dot.y}" for dot in run) for run in runs if len(run) > 1]


def _nice_ticks(low: float, high: float) -> list[float]:
    """Return round values from at most `low` to at least `high`."""
    span = (high - low) or 1.0
    raw = span / _TICKS
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _description(labels: Sequence[str], series: Sequence[Series]) -> str:
    """Return in words what the chart shows, for those who do not see it."""
    parts = []
    for one in series:
        told = [(label, value) for label, value in zip(labels, one.values, strict=True) if value is not None]
        if not told:
            continue
        (first, start), (last, end) = told[0], told[-1]
        if len(told) == 1:
            parts.append(f"{one.name}: {start:+.6f} at {first}.")
            continue
        falls = [after < before for (_, before), (_, after) in pairwise(told)]
        trend = "falling" if all(falls) else "rising" if not any(falls) else "going up and down"
        parts.append(f"{one.name}: from {start:+.6f} at {first} to {end:+.6f} at {last}, {trend}.")
    return " ".join(parts) + " The table on this page has all values."
