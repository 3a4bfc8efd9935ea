"""Bar charts as inline SVG: text that is the same for the same numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Bars = Sequence[tuple[str, int]]

_BAR, _GAP, _HEIGHT, _TOP, _BOTTOM = 34, 6, 120, 18, 34


def bar_chart(title: str, axis: str, bars: Bars) -> Markup:
    """Return a bar chart with each bar's count above and its label below; heights are linear."""
    most = max((count for _, count in bars), default=0) or 1
    width, height = len(bars) * (_BAR + _GAP) + _GAP, _TOP + _HEIGHT + _BOTTOM
    parts = [_bar(place, label, count, most) for place, (label, count) in enumerate(bars)]
    said = escape(f"{title}: " + ", ".join(f"{label}: {count}" for label, count in bars))
    axis_text = f'<text x="{width / 2:g}" y="{height - 4}" class="axis">{escape(axis)}</text>'
    return Markup(  # noqa: S704 - every text in it is escaped
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption><svg role="img" aria-label="{said}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}{axis_text}</svg></figure>'
    )


def _bar(place: int, label: str, count: int, most: int) -> str:
    tall = round(_HEIGHT * count / most, 1)
    if count:
        tall = max(tall, 1)
    x, top = _GAP + place * (_BAR + _GAP), round(_TOP + _HEIGHT - tall, 1)
    middle = x + _BAR / 2
    return (
        f'<rect x="{x}" y="{top:g}" width="{_BAR}" height="{tall:g}"/>'
        f'<text x="{middle:g}" y="{top - 4:g}">{count}</text>'
        f'<text x="{middle:g}" y="{_TOP + _HEIGHT + 13}" class="tick">{escape(label)}</text>'
    )


def binned(values: Iterable[float], edges: Sequence[float], unit: str = "") -> Bars:
    """Count values in bins: below the first edge, from each edge to the next, from the last edge on."""
    counts = Counter(bisect_right(edges, value) for value in values)
    names = [f"<{edges[0]:g}{unit}", *(f"{low:g}–" for low in edges[:-1]), f"≥{edges[-1]:g}{unit}"]
    return [(name, counts[index]) for index, name in enumerate(names)]


def counted(values: Iterable[int], singles: int, edges: Sequence[int]) -> Bars:
    """Count whole numbers: 1 to `singles` each alone, then in ranges that end at each edge."""
    counts = Counter(values)
    bars = [(str(n), counts[n]) for n in range(1, singles + 1)]
    lows = [singles + 1, *(edge + 1 for edge in edges)]
    for low, high in zip(lows, [*edges, None], strict=True):
        number = sum(count for n, count in counts.items() if n >= low and (high is None or n <= high))
        bars.append((f"{low}–{high}" if high else f"≥{low}", number))
    return bars
