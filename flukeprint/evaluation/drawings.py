"""The report's charts, from figures and curves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flukeprint.evaluation import report_words as words
from flukeprint.evaluation.curves import Points
from flukeprint.pages.charts import Axis, Chart, Line, interval_chart, line_chart
from flukeprint.scoring.registry import ENSEMBLE, MOST_FREQUENT, scorer_of

# By stage and member the epochs of a training, each with its losses and accuracies.
Histories = dict[str, dict[str, list[dict[str, float]]]]

# By curve the keys of its points and what the axes show.
_AXES = {
    "new_share": (("share", Axis("share of new whales", 0.1, 0.6)), ("map5", Axis("MAP@5"))),
    "cmc": (
        ("rank", Axis("length of the list of candidates", None, whole=True)),
        ("identified", Axis("share of known whales")),
    ),
    "precision_recall": (
        ("recall", Axis("recall: known whales found")),
        ("envelope", Axis("precision: accepted ones right", 0.0, 1.0)),
    ),
    "reliability": (
        ("confidence", Axis("probability of the first answer", 0.0, 1.0)),
        ("accuracy", Axis("share that is right", 0.0, 1.0)),
    ),
    "roc": (
        ("far", Axis("false accepts (FAR)", 1e-4, 1.0, percent=True)),
        ("tar", Axis("same whale accepted (TAR)", 0.0, 1.0)),
    ),
}
# Number of the line style of the smallest gallery; larger ones have the next.
_FIRST_SIZE = 2
_TRAININGS = {"train": "head of the small set", "finetune": "full fine-tuning", "full_head": "head of every class"}
_FIGURES = {"loss": "loss (nats)", "accuracy": "accuracy"}
_PARTS = {
    "train": ("training photos", scorer_of(MOST_FREQUENT).style),
    "valid": ("validation photos", scorer_of(ENSEMBLE).style),
}


def map5_chart(figures: Mapping[str, Mapping[str, float]], new_share: float) -> list[Chart]:
    """Return the MAP@5 of each result with its interval, if there are any."""
    rows = {name: (row["map5_low"], row["map5"], row["map5_high"]) for name, row in figures.items() if "map5" in row}
    title = "MAP@5 with its 95 % interval"
    return [Chart(title, interval_chart(title, "MAP@5", rows, new_share))] if rows else []


def curve_charts(curves: Mapping[str, Mapping[str, Points]], new_share: float) -> list[Chart]:
    """Return a chart for each curve that some result has. Similarities, which the ROC compares, are no results."""
    charts = []
    for name, (title, says) in words.CURVES.items():
        (x_key, x), (y_key, y) = _AXES[name]
        lines = [
            Line(result, [(point[x_key], point[y_key]) for point in found[name]], words.style_of(result))
            for result, found in curves.items()
            if name in found and (name == "roc" or name in scorer_of(result).curves)
        ]
        if lines:
            mark = new_share if name == "new_share" else None
            svg = line_chart(title, x, y, lines, diagonal=name == "reliability", mark=mark)
            charts.append(Chart(title, svg, says))
    return charts


def size_chart(curves: Mapping[str, Points]) -> list[Chart]:
    """Return the reliability in galleries of several sizes, if there is any: a line for each."""
    title, says = words.SIZES
    (x_key, x), (y_key, y) = _AXES["reliability"]
    lines = [
        Line(words.size_name(name), [(point[x_key], point[y_key]) for point in points], style)
        for style, (name, points) in enumerate(curves.items(), _FIRST_SIZE)
    ]
    return [Chart(title, line_chart(title, x, y, lines, diagonal=True), says)] if lines else []


def training_charts(histories: Histories) -> list[Chart]:
    """Return the losses and accuracies of each training over epochs, a line for each member."""
    return [
        Chart(title, line_chart(title, Axis("epoch", None, whole=True), Axis(_FIGURES[figure]), lines))
        for stage, members in histories.items()
        for figure in _FIGURES
        for title in [f"{_TRAININGS.get(stage, stage)}: {figure}"]
        if (lines := list(_training_lines(members, figure)))
    ]


def _training_lines(members: Mapping[str, Sequence[Mapping[str, Any]]], figure: str) -> Iterator[Line]:
    """Yield a figure over the epochs; a training without validation photos has none of theirs."""
    for part, (name, style) in _PARTS.items():
        key = f"{part}_{figure}"
        for history in members.values():
            points = [(epoch["epoch"], epoch[key]) for epoch in history if epoch[key] is not None]
            if points:
                yield Line(name, points, style)
