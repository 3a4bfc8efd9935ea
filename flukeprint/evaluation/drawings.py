"""The report's charts, from figures and curves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from flukeprint.core.paths import PRETRAINED
from flukeprint.evaluation import words
from flukeprint.pages.line_charts import Axis, Line, line_chart, nice_high, percent_axis, swatch, whisker, whisker_axis
from flukeprint.scoring.registry import (
    ALL_NEW,
    BEST,
    BLEND,
    DUPLICATES,
    ENSEMBLE,
    ENSEMBLE_CLASS,
    GALLERY,
    GALLERY_CENTRE,
    GALLERY_NEAREST,
    MOST_FREQUENT,
    PRETRAINED_KNN,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flukeprint.evaluation.curves import Points

# By stage and member the epochs of a training, each with its losses and accuracies.
Histories = dict[str, dict[str, list[dict[str, float]]]]

# Numbers of CSS classes. Every result keeps its line; results without one of their own share the rest.
_STYLES = {
    ALL_NEW: 0,
    MOST_FREQUENT: 1,
    DUPLICATES: 2,
    PRETRAINED_KNN: 3,
    PRETRAINED: 3,
    ENSEMBLE: 4,
    ENSEMBLE_CLASS: 5,
    GALLERY: 6,
    BLEND: 7,
}
_OTHERS = (8,)
# The two parts of `gallery`, and the result that is another's but for near-duplicates: their lines hide others.
_ALIKE = {GALLERY_NEAREST, GALLERY_CENTRE, BEST}
# By curve: results that have nothing to say there. A ranking is the same with and without new_whale as a class.
_LEFT_OUT: dict[str, set[str]] = {
    "cmc": {ENSEMBLE_CLASS, *_ALIKE},
    "precision_recall": {MOST_FREQUENT, *_ALIKE},
    "reliability": {ALL_NEW, MOST_FREQUENT, *_ALIKE},
    "new_share": _ALIKE,
    "roc": set(),
}
_AXES = {
    "cmc": ("rank", "identified"),
    "precision_recall": ("recall", "envelope"),
    "reliability": ("confidence", "accuracy"),
    "new_share": ("share", "map5"),
    "roc": ("far", "tar"),
}


@dataclass(frozen=True)
class Chart:
    """A chart with its words and the key to its lines."""

    title: str
    says: str
    svg: Markup
    key: list[tuple[Markup, str]]  # (swatch, name)


def whiskers(figures: Mapping[str, Mapping[str, float]], new_share: float) -> dict[str, Markup]:
    """Return the MAP@5 of each result with its interval, by name, and under '' the axis that they share."""
    rows = {name: row for name, row in figures.items() if "map5" in row}
    axis = percent_axis("MAP@5", nice_high([row["map5_high"] for row in rows.values()]))
    drawn = {
        name: whisker(row["map5_low"], row["map5"], row["map5_high"], axis, new_share) for name, row in rows.items()
    }
    return drawn | {"": whisker_axis(axis)} if rows else {}


def curve_charts(curves: Mapping[str, Mapping[str, Points]], new_share: float) -> list[Chart]:
    """Return a chart for each curve that some result has."""
    charts = []
    for name, (title, says) in words.CURVES.items():
        x_key, y_key = _AXES[name]
        lines = [
            Line(result, [(point[x_key], point[y_key]) for point in found[name]], _style(result, curves))
            for result, found in curves.items()
            if name in found and result not in _LEFT_OUT[name]
        ]
        if lines:
            charts.append(_chart(name, title, says, lines, new_share))
    return charts


def _style(result: str, curves: Mapping[str, object]) -> int:
    others = [name for name in curves if name not in _STYLES]
    return _STYLES[result] if result in _STYLES else _OTHERS[others.index(result) % len(_OTHERS)]


def _chart(name: str, title: str, says: str, lines: Sequence[Line], new_share: float) -> Chart:
    highs = [y for line in lines for _, y in line.points]
    match name:
        case "cmc":
            x = Axis("length of the list of candidates", 1, 20, [1, 5, 10, 15, 20])
            svg = line_chart(title, x, percent_axis("share of known whales", nice_high(highs)), lines)
        case "precision_recall":
            x = percent_axis("recall: known whales found", nice_high([x for line in lines for x, _ in line.points]))
            svg = line_chart(title, x, percent_axis("precision: accepted ones right"), lines)
        case "reliability":
            x, y = percent_axis("probability of the first answer"), percent_axis("share that is right")
            svg = line_chart(title, x, y, lines, diagonal=True)
        case "roc":
            ticks = range(-4, 1)
            x = Axis("false accepts (FAR)", -4, 0, list(ticks), [f"{100.0 * 10.0**tick:g} %" for tick in ticks])
            lines = [Line(line.name, [(math.log10(x), y) for x, y in line.points], line.style) for line in lines]
            svg = line_chart(title, x, percent_axis("pairs of the same whale accepted (TAR)"), lines)
        case _:
            x = Axis("share of new whales", 0.1, 0.6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
            svg = line_chart(title, x, percent_axis("MAP@5", nice_high(highs)), lines, mark=new_share)
    return Chart(title, says, svg, [(swatch(line.style), line.name) for line in lines])


_TRAININGS = {"train": "head of the small set", "finetune": "full fine-tuning", "full_head": "head of every class"}
_PARTS = {"train": ("training photos", 1), "valid": ("validation photos", 4)}


def training_charts(histories: Histories) -> list[Chart]:
    """Return the losses and accuracies of each training over epochs, a line for each member."""
    charts = []
    for stage, members in histories.items():
        for figure, label in (("loss", "loss (nats)"), ("accuracy", "accuracy")):
            drawn = [
                Line(name, _points(history, f"{part}_{figure}"), style)
                for part, (name, style) in _PARTS.items()
                for history in members.values()
            ]
            lines = [line for line in drawn if line.points]
            if lines:
                charts.append(_training_chart(f"{_TRAININGS.get(stage, stage)}: {figure}", label, lines))
    return charts


def _points(history: Sequence[Mapping[str, Any]], figure: str) -> list[tuple[float, float]]:
    """Return a figure over the epochs; a training without validation photos has none of theirs."""
    return [(epoch["epoch"], epoch[figure]) for epoch in history if epoch[figure] is not None]


def _training_chart(title: str, label: str, lines: Sequence[Line]) -> Chart:
    epochs = int(max(x for line in lines for x, _ in line.points))
    highest = max(y for line in lines for _, y in line.points)
    step = max(1, -(-epochs // 6))
    x = Axis("epoch", 1, max(epochs, 2), [1, *range(1 + step, epochs + 1, step)])
    y = percent_axis(label, nice_high([highest])) if label == "accuracy" else _loss_axis(label, highest)
    key = dict.fromkeys((line.style, line.name) for line in lines)
    return Chart(title, "", line_chart(title, x, y, lines), [(swatch(style), name) for style, name in key])


def _loss_axis(label: str, highest: float) -> Axis:
    """Return an axis from 0 with about five round ticks."""
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 1e9) if highest <= 5 * step)
    number = -int(-highest // step)
    return Axis(label, 0.0, number * step, [step * index for index in range(number + 1)])
