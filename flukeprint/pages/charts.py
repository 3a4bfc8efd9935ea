"""Charts as inline SVG, by matplotlib: text stays text, the same numbers give the same bytes, and nothing is loaded."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Units of the drawing, which scales to its column: a little less than a pixel on a telephone, a little more on a desk.
_WIDTH, _PLOT, _UNIT = 460, 300, 72
_INK, _SOFT, _PALE, _BAR = "#1c2733", "#5b6875", "#dfe4e9", "#3d6f99"
# (colour, dash, marker) by number of style; colours after Okabe and Ito, told apart by people who see fewer of them.
_STYLES: tuple[tuple[str, Any, str], ...] = (
    ("#7a7a7a", (0, (1, 2)), "x"),
    ("#a08060", "-.", "v"),
    ("#c47f00", (0, (5, 2)), "s"),
    ("#008a63", (0, (3, 1.5)), "^"),
    ("#0072b2", "-", "o"),
    ("#b0568a", (0, (2, 2)), "D"),
    ("#d55e00", "-", "P"),
    ("#111111", "-", "d"),
    ("#56b4e9", "-", "."),
)
_ASIDE: dict[str, Any] = {"color": _SOFT, "linewidth": 1.2, "linestyle": (0, (4, 3)), "zorder": 1}
# So many markers on a long line.
_MARKERS = 12
_RULES: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), _SOFT),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "svg.fonttype"), "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.grid": True,
    "grid.color": _PALE,
    "font.size": 12.5,
    "legend.fontsize": 12,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Chart:
    """A chart with its words."""

    title: str
    svg: Markup
    says: str = ""


@dataclass(frozen=True)
class Axis:
    """What an axis shows; where it does not say from where to where, the data decide."""

    label: str
    low: float | None = 0.0
    high: float | None = None
    percent: bool = False  # powers of ten, as percentages
    whole: bool = False  # whole numbers only


@dataclass(frozen=True)
class Line:
    """A named line; `style` is a number: the same on every chart. Lines of one name share an entry of the key."""

    name: str
    points: Sequence[tuple[float, float]]
    style: int


def line_chart(
    title: str, x: Axis, y: Axis, lines: Sequence[Line], *, diagonal: bool = False, mark: float | None = None
) -> Markup:
    """Draw lines with their key below; `diagonal` draws y = x, `mark` a vertical line."""
    names = list(dict.fromkeys(line.name for line in lines))
    key = 6 + 18 * -(-len(names) // 3)
    with _axes(_PLOT + key, left=56, bottom=42 + key) as (figure, axes):
        for line in lines:
            _draw(axes, line, light=len(lines) > len(names))
        _limit(axes, x, y)
        if diagonal:
            axes.axline((0, 0), slope=1, **_ASIDE)
        if mark is not None:
            axes.axvline(mark, **_ASIDE)
        drawn = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(
            drawn.values(), drawn, loc="lower center", ncols=3, columnspacing=1.4, handlelength=2.6, borderpad=0
        )
        return _svg(figure, title, f"{y.label} over {x.label}, for {', '.join(names)}")


def interval_chart(
    title: str, label: str, rows: Mapping[str, tuple[float, float, float]], mark: float | None = None
) -> Markup:
    """Draw (low, estimate, high) of each name in a row of its own, the first on top; `mark` is a vertical line."""
    names, values = list(rows), list(rows.values())
    with _axes(20 * len(rows) + 56, left=16 + 7.5 * max(map(len, names)), bottom=44) as (figure, axes):
        if mark is not None:
            axes.axvline(mark, **_ASIDE)
        spans = [[middle - low for low, middle, _ in values], [high - middle for _, middle, high in values]]
        style: dict[str, Any] = {"color": _STYLES[4][0], "ecolor": _INK, "elinewidth": 1.6, "capsize": 3.5}
        axes.errorbar([middle for _, middle, _ in values], range(len(rows)), xerr=spans, fmt="o", **style)
        axes.set_yticks(range(len(rows)), names)
        axes.set(xlabel=label, xlim=(0, None), ylim=(len(rows) - 0.4, -0.6))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        said = ", ".join(f"{name} {middle:.3f} ({low:.3f} to {high:.3f})" for name, (low, middle, high) in rows.items())
        return _svg(figure, title, f"{label}: {said}")


def bar_chart(title: str, label: str, bars: Sequence[tuple[str, int]]) -> Markup:
    """Draw a bar for each (name, count) with its count above and its name below; heights are linear."""
    with _axes(220, left=8, bottom=48) as (figure, axes):
        drawn = axes.bar(range(len(bars)), [count for _, count in bars], color=_BAR, width=0.84)
        axes.bar_label(drawn, fontsize=10.5, padding=2)
        axes.set_xticks(range(len(bars)), [name for name, _ in bars], fontsize=10.5)
        axes.set(xlabel=label, yticks=[], xlim=(-0.6, max(len(bars), 4) - 0.4))
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="x", length=0)
        return _svg(figure, title, ", ".join(f"{name}: {count}" for name, count in bars))


def histogram(values: Iterable[float], edges: Sequence[float], *, whole: bool = False) -> list[tuple[str, int]]:
    """Count values from each edge to the next, and below the first and from the last one on.

    Whole numbers are named by the first and the last of each bar; none of them is below the first edge.
    """
    import numpy as np

    counts = np.bincount(np.searchsorted(edges, list(values), side="right"), minlength=len(edges) + 1).tolist()
    last = [high - 1 for high in edges[1:]]
    spans = [f"{low}–{high}" if high > low else f"{low}" for low, high in zip(edges, last, strict=False)]
    names = spans if whole else [f"{low:g}–" for low in edges[:-1]]
    bars = list(zip([f"<{edges[0]:g}", *names, f"≥{edges[-1]:g}"], counts, strict=True))
    return bars[1:] if whole else bars


def _draw(axes: Axes, line: Line, *, light: bool) -> None:
    """Draw a line, thinner where many are alike; a marker at the edge is not cut off."""
    colour, dash, marker = _STYLES[line.style]
    style: dict[str, Any] = {"color": colour, "linestyle": dash, "marker": marker, "clip_on": False}
    if light:
        style |= {"linewidth": 1.0, "markersize": 2.5}
    every = max(1, len(line.points) // _MARKERS)
    axes.plot(*zip(*line.points, strict=True), label=line.name, markevery=every, **style)


def _limit(axes: Axes, x: Axis, y: Axis) -> None:
    axes.margins(x=0.02, y=0.04)
    axes.set(xlabel=x.label, ylabel=y.label)
    if x.percent:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.minorticks_off()
    if x.whole:
        axes.locator_params(axis="x", integer=True)
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)


@contextmanager
def _axes(height: float, left: float, bottom: float) -> Iterator[tuple[Figure, Axes]]:
    """Give an empty figure with its axes; margins in units, as the height. No setting of the machine's counts."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RULES)  # type: ignore[arg-type]
        figure = Figure(figsize=(_WIDTH / _UNIT, height / _UNIT))
        edges = {"left": left / _WIDTH, "right": 1 - 20 / _WIDTH, "bottom": bottom / height, "top": 1 - 10 / height}
        yield figure, figure.subplots(gridspec_kw=edges)


def _svg(figure: Figure, title: str, says: str) -> Markup:
    """Return the figure as an element of a page: no ids but those of shapes, no styles but the page's font."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = title  # ids of shapes are then the chart's own
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    head, body = re.split(r"(?<=>)", stream.getvalue().partition("<svg")[2], maxsplit=1)
    box = re.search(r'viewBox="[\d. ]+"', head)
    body = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#(\w+)", body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    body = re.sub(r'font-family:[^;"]*;? ?| transform="rotate\(-0 [^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r"\s+", " ", body)
    said = escape(f"{title}: {says}")
    return Markup(f'<svg role="img" aria-label="{said}" {box[0] if box else ""}>{body}')  # noqa: S704 - all escaped
