"""Line charts and whiskers as inline SVG: text that is the same for the same numbers, and loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 10, 42
# Longer lines have no dots on them.
_DOTS = 25


@dataclass(frozen=True)
class Axis:
    """A linear axis."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    texts: Sequence[str] = ()  # of the ticks, where they are not the numbers themselves

    def at(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one; values outside lie at the ends."""
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Line:
    """A named line; `style` is the number of its CSS class (`s0`, `s1`, ...)."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int


def percent_axis(label: str, high: float = 1.0) -> Axis:
    """Return an axis of shares from 0, with ticks every tenth, fifth or quarter."""
    step = 0.05 if high <= 0.25 else 0.1 if high <= 0.6 else 0.2
    number = round(high / step)
    return Axis(label, 0.0, high, [step * index for index in range(number + 1)])


def nice_high(values: Sequence[float], step: float = 0.1) -> float:
    """Return the smallest multiple of `step` above all values, at most 1."""
    most = max(values, default=0.0)
    return min(1.0, step * (int(most / step + 1e-9) + 1))


def line_chart(
    title: str, x: Axis, y: Axis, lines: Sequence[Line], *, diagonal: bool = False, mark: float | None = None
) -> Markup:
    """Return a chart of lines, with dots where they are short.

    `diagonal` draws y = x, `mark` a vertical line.
    """
    frame = _grid(x, y) + (_diagonal(x, y) if diagonal else "") + ("" if mark is None else _mark(mark, x, y))
    drawn = "".join(_line(line, x, y) for line in lines)
    said = escape(f"{title}: {y.label} over {x.label}, for " + ", ".join(dict.fromkeys(line.name for line in lines)))
    return Markup(  # noqa: S704 - every text in it is escaped
        f'<svg class="lines" role="img" aria-label="{said}" viewBox="0 0 {_WIDTH} {_HEIGHT}">{frame}{drawn}</svg>'
    )


def swatch(style: int) -> Markup:
    """Return the key to a line's style."""
    return Markup(  # noqa: S704 - a number only
        f'<svg class="swatch" viewBox="0 0 34 10"><g class="s{style}"><polyline points="1,5 33,5"/>'
        '<circle cx="17" cy="5" r="3"/></g></svg>'
    )


def _place(point: tuple[float, float], x: Axis, y: Axis) -> tuple[float, float]:
    return (
        round(_LEFT + x.at(point[0]) * (_WIDTH - _LEFT - _RIGHT), 1),
        round(_HEIGHT - _BOTTOM - y.at(point[1]) * (_HEIGHT - _TOP - _BOTTOM), 1),
    )


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks:
        _, height = _place((x.low, tick), x, y)
        parts.append(f'<path class="grid" d="M{_LEFT} {height:g}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 6}" y="{height + 4:g}">{_number(tick)}</text>')
    for tick, text in zip(x.ticks, x.texts or [_number(tick) for tick in x.ticks], strict=True):
        across, _ = _place((tick, y.low), x, y)
        parts.append(f'<path class="grid" d="M{across:g} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text class="x" x="{across:g}" y="{_HEIGHT - _BOTTOM + 16}">{escape(text)}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="x axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 6}">{escape(x.label)}</text>'
    )
    parts.append(f'<text class="x axis" transform="translate(11 {middle:g}) rotate(-90)">{escape(y.label)}</text>')
    return "".join(parts)


def _diagonal(x: Axis, y: Axis) -> str:
    ends = [_place((value, value), x, y) for value in (max(x.low, y.low), min(x.high, y.high))]
    return f'<polyline class="ideal" points="{_path(ends)}"/>'


def _mark(value: float, x: Axis, y: Axis) -> str:
    across, _ = _place((value, y.low), x, y)
    return f'<path class="ideal" d="M{across:g} {_TOP}V{_HEIGHT - _BOTTOM}"/>'


def _line(line: Line, x: Axis, y: Axis) -> str:
    places = [_place(point, x, y) for point in line.points]
    dots = "".join(f'<circle cx="{a:g}" cy="{b:g}" r="3"/>' for a, b in places) if len(places) <= _DOTS else ""
    return f'<g class="s{line.style}"><polyline points="{_path(places)}"/>{dots}</g>'


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:g},{b:g}" for a, b in places)


def _number(value: float) -> str:
    return f"{round(value, 6):g}"


# --- whiskers: one row of a table each -------------------------------------------------------------------

_ROW_WIDTH, _ROW_HEIGHT, _PAD = 240, 26, 12


def whisker(low: float, middle: float, high: float, axis: Axis, line_at: float | None = None) -> Markup:
    """Return an estimate as a dot on the line of its interval; `line_at` marks a value to compare with."""
    a, b, c = (_across(value, axis) for value in (low, middle, high))
    half = _ROW_HEIGHT / 2
    mark = "" if line_at is None else f'<path class="mark" d="M{_across(line_at, axis):g} 0V{_ROW_HEIGHT}"/>'
    ends = f"M{a:g} {half - 5:g}V{half + 5:g}M{c:g} {half - 5:g}V{half + 5:g}"
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="whisker" aria-hidden="true" viewBox="0 0 {_ROW_WIDTH} {_ROW_HEIGHT}">{_row_grid(axis)}{mark}'
        f'<path class="span" d="M{a:g} {half:g}H{c:g}{ends}"/><circle cx="{b:g}" cy="{half:g}" r="3.4"/></svg>'
    )


def whisker_axis(axis: Axis) -> Markup:
    """Return the axis of a column of whiskers."""
    texts = "".join(
        f'<text class="x" x="{_across(tick, axis):g}" y="{_ROW_HEIGHT - 9}">{_number(tick)}</text>'
        for tick in axis.ticks
    )
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="whisker" aria-hidden="true" viewBox="0 0 {_ROW_WIDTH} {_ROW_HEIGHT}">{texts}</svg>'
    )


def _across(value: float, axis: Axis) -> float:
    return round(_PAD + axis.at(value) * (_ROW_WIDTH - 2 * _PAD), 1)


def _row_grid(axis: Axis) -> str:
    return "".join(f'<path class="grid" d="M{_across(tick, axis):g} 0V{_ROW_HEIGHT}"/>' for tick in axis.ticks)
