"""Curves and clouds of points as SVG, with linear or logarithmic axes; bars are those of `inspect/charts.py`."""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.inspect.charts import CALM, GREY, LOUD

GREEN = "#3f8f6b"
_WIDTH, _HEIGHT = 430, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 24, 38
_MOST_POINTS = 250
_TICKS = 5
__all__ = ["CALM", "GREEN", "GREY", "LOUD", "Axis", "Curve", "Mark", "plot", "swarm"]


class Axis(msgspec.Struct, frozen=True):
    """What an axis is of, and from where to where; values beyond are drawn at its end."""

    name: str
    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        low, high, one = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, one = (math.log10(number) for number in (low, high, one))
        return (one - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if self.is_log:
            decades = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**n for n in decades]
        step = _round_step((self.high - self.low) / _TICKS)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Curve(msgspec.Struct, frozen=True):
    """Points (n,) that are joined by a line, or with `is_dots` are not."""

    name: str
    x: NDArray[Any]
    y: NDArray[Any]
    colour: str = CALM
    is_dots: bool = False
    is_dashed: bool = False


class Mark(msgspec.Struct, frozen=True):
    """A ring at one point, and what stands beside it: to the right, or with `is_left` to the left."""

    name: str
    x: float
    y: float
    colour: str = LOUD
    is_left: bool = False


def plot(curves: Sequence[Curve], x: Axis, y: Axis, marks: Iterable[Mark] = ()) -> str:
    """The curves over both axes, with a legend where there is more than one, and marks above them."""
    drawn = [*_grid(x, y), *(_curve(one, x, y) for one in curves)]
    for one in marks:
        left, top = _at(one.x, one.y, x, y)
        shift, anchor = (-7, "end") if one.is_left or left > _WIDTH * 0.6 else (7, "start")
        drawn.append(
            f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4" fill="#fff" stroke="{one.colour}" stroke-width="2"/>'
        )
        drawn.append(
            f'<text x="{left + shift:.1f}" y="{top - 5:.1f}" text-anchor="{anchor}" fill="{one.colour}">'
            f"{escape(one.name)}</text>"
        )
    legend = ""
    if len(curves) > 1:
        legend = "".join(
            f'<span class="key" style="background:{one.colour}"></span>{escape(one.name)}' for one in curves
        )
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" class="plot" role="img">{"".join(drawn)}</svg>'
    return f"<figure>{svg}<figcaption>{legend}</figcaption></figure>"


def swarm(names: Sequence[str], values: Sequence[NDArray[np.float64]], colours: Sequence[Sequence[str]], x: str) -> str:
    """A row of dots for each name, by values (n,) and colours (n,); dots that would lie on each other are stacked."""
    row, width, left = 24, 860, 330
    reach = max((float(np.abs(one).max(initial=0.0)) for one in values), default=0.0) or 1.0
    height = row * len(names) + 34
    middle, half = left + (width - left - 16) / 2, (width - left - 16) / 2
    drawn = [f'<line x1="{middle}" x2="{middle}" y1="6" y2="{height - 26}" stroke="{GREY}"/>']
    for n, (name, places, shades) in enumerate(zip(names, values, colours, strict=True)):
        y = 16 + n * row
        drawn.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        taken: dict[int, int] = {}
        for place, shade in zip(places.tolist(), shades, strict=True):
            at = middle + half * place / reach
            cell = round(at / 3)
            stacked = taken[cell] = taken.get(cell, -1) + 1
            shift = min((stacked + 1) // 2, 5) * (2 if stacked % 2 else -2)
            drawn.append(f'<circle cx="{at:.0f}" cy="{y + shift}" r="2" fill="{shade}"/>')
    for value in (-reach, 0.0, reach):
        anchor = "start" if value < 0 else "end" if value > 0 else "middle"
        at = middle + half * value / reach
        drawn.append(f'<text x="{at:.0f}" y="{height - 10}" text-anchor="{anchor}">{value:+.2g}</text>')
    drawn.append(f'<text x="{left - 10}" y="{height - 10}" text-anchor="end">{escape(x)}</text>')
    return f'<svg viewBox="0 0 {width} {height}" class="plot" role="img">{"".join(drawn)}</svg>'


def _at(x_value: float, y_value: float, x: Axis, y: Axis) -> tuple[float, float]:
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return _LEFT + wide * x.place(x_value), _TOP + high * (1 - y.place(y_value))


def _curve(one: Curve, x: Axis, y: Axis) -> str:
    points = _thinned([_at(float(a), float(b), x, y) for a, b in zip(one.x, one.y, strict=True)])
    if one.is_dots:
        return "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{one.colour}"/>' for a, b in points)
    dash = ' stroke-dasharray="4 4"' if one.is_dashed else ""
    joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline points="{joined}" fill="none" stroke="{one.colour}" stroke-width="1.8"{dash}/>'


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """So many of the points at most, at equal steps along the line that they make: bends stay."""
    if len(points) <= _MOST_POINTS:
        return points
    steps = np.abs(np.diff(np.array(points), axis=0)).sum(axis=1)
    along = np.append(0.0, np.cumsum(steps))
    chosen = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _MOST_POINTS)))
    return [points[n] for n in chosen.tolist()]


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for tick in y.ticks():
        _, top = _at(x.low, tick, x, y)
        yield f'<line x1="{_LEFT}" x2="{right}" y1="{top:.1f}" y2="{top:.1f}" stroke="#e4e7ec"/>'
        yield f'<text x="{_LEFT - 6}" y="{top + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
    for tick in x.ticks():
        left, _ = _at(tick, y.low, x, y)
        yield f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#99a"/>'
        yield f'<text x="{left:.1f}" y="{bottom + 16}" text-anchor="middle">{_short(tick)}</text>'
    yield f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{escape(x.name)}</text>'
    yield f'<text x="{_LEFT - 40}" y="{_TOP - 11}">{escape(y.name)}</text>'


def _round_step(wanted: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(wanted))
    return next((step * power for step in (1, 2, 2.5, 5) if wanted <= step * power * 1.0001), 10 * power)


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:.6g}"
