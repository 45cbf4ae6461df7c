"""Plots as SVG, drawn by hand: they stand in the page, and need nothing from outside."""

import math
from collections.abc import Sequence
from html import escape

import msgspec

_WIDTH, _HEIGHT = 860, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 58, 14, 26
CALM, LOUD, GREY = "#5b7fa6", "#c2413b", "#c9ced6"


class Bar(msgspec.Struct, frozen=True):
    """One bar: how high, what stands below it (or nothing), and what is told of it."""

    height: float
    label: str
    told: str


class Line(msgspec.Struct, frozen=True):
    """A line over bars, with a scale of its own at the right: a value for each bar, None where there is none."""

    values: tuple[float | None, ...]
    name: str


def bars(values: Sequence[Bar], name: str, line: Line | None = None) -> str:
    """Bars from left to right, and a line over them."""
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    top = _round_up(max((one.height for one in values), default=0))
    step = wide / max(len(values), 1)
    drawn = _axis(name, top, _LEFT, left=True)
    for n, one in enumerate(values):
        height = high * one.height / top
        x, y = _LEFT + n * step, _TOP + high - height
        drawn.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(step - 1, 0.8):.1f}" height="{height:.1f}" fill="{CALM}">'
            f"<title>{escape(one.told)}</title></rect>"
        )
    drawn += _below([one.label for one in values], step)
    if line is not None:
        drawn += _line(line, step)
    return _svg(drawn, _HEIGHT)


def pairs(values: Sequence[tuple[Bar, Bar]], name: str) -> str:
    """Two bars beside each other in each place: of the one class and of the other."""
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    top = _round_up(max((max(one.height, other.height) for one, other in values), default=0))
    step = wide / max(len(values), 1)
    drawn = _axis(name, top, _LEFT, left=True)
    for n, both in enumerate(values):
        for m, (one, colour) in enumerate(zip(both, (CALM, LOUD), strict=True)):
            height = high * one.height / top
            drawn.append(
                f'<rect x="{_LEFT + n * step + m * step * 0.45 + 1:.1f}" y="{_TOP + high - height:.1f}" '
                f'width="{step * 0.43:.1f}" height="{height:.1f}" fill="{colour}">'
                f"<title>{escape(one.told)}</title></rect>"
            )
    drawn += _below([one.label for one, _ in values], step)
    return _svg(drawn, _HEIGHT)


def meter(share: float, colour: str = CALM) -> str:
    """A small bar of 0 to 1 for a cell of a table."""
    width = 90
    return (
        f'<svg class="meter" viewBox="0 0 {width} 10" width="{width}" height="10"><rect width="{width}" height="10" '
        f'fill="#eceff3"/><rect width="{width * min(max(share, 0), 1):.1f}" height="10" fill="{colour}"/></svg>'
    )


def _line(line: Line, step: float) -> list[str]:
    high = _HEIGHT - _TOP - _BOTTOM
    top = _round_up(max((one for one in line.values if one is not None), default=0))
    drawn, run = _axis(line.name, top, _WIDTH - _RIGHT, left=False), []
    for n, value in enumerate((*line.values, None)):
        if value is not None:
            run.append(f"{_LEFT + (n + 0.5) * step:.1f},{_TOP + high - high * value / top:.1f}")
        elif run:
            points = " ".join(run if len(run) > 1 else [run[0], run[0]])
            drawn.append(
                f'<polyline points="{points}" fill="none" stroke="{LOUD}" stroke-width="2" stroke-linecap="round"/>'
            )
            run = []
    return drawn


def _axis(name: str, top: float, x: float, *, left: bool) -> list[str]:
    """Three values of the scale, and what it is of."""
    high, drawn = _HEIGHT - _TOP - _BOTTOM, []
    anchor, shift = ("end", -6) if left else ("start", 6)
    colour = "#445" if left else LOUD
    for part in (0.0, 0.5, 1.0):
        y = _TOP + high * (1 - part)
        if left:
            drawn.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e7ec"/>')
        shown = _short(top * part) if left else f"{top * part:.2g} %" if part else "0"
        drawn.append(f'<text x="{x + shift}" y="{y + 4:.1f}" text-anchor="{anchor}" fill="{colour}">{shown}</text>')
    drawn.append(
        f'<text x="{x}" y="{_TOP - 4}" text-anchor="{"start" if left else "end"}" fill="{colour}">{escape(name)}</text>'
    )
    return drawn


def _below(labels: Sequence[str], step: float) -> list[str]:
    """As many labels as there is room for."""
    named = [(n, label) for n, label in enumerate(labels) if label]
    longest = max((len(label) for _, label in named), default=1)
    room = max(1, math.ceil(longest * 7 / step))
    drawn, free = [], 0
    for n, label in named:
        if n >= free:
            x = f"{_LEFT + (n + 0.5) * step:.1f}"
            drawn.append(f'<text x="{x}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
            free = n + room
    return drawn


def _svg(drawn: Sequence[str], height: int) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" class="plot" role="img">{"".join(drawn)}</svg>'


def _round_up(value: float) -> float:
    """The next of some even steps of a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 1.5, 2, 3, 4, 6, 8) if value <= step * power), 10 * power)


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
