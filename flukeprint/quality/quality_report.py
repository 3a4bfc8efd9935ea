"""The report as one HTML page that loads nothing, on screen and on paper. The same data gives the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import ValidateParams
from flukeprint.core.replacement import replacing_folder
from flukeprint.data.labels import NEW_WHALE
from flukeprint.pages.charts import Chart, bar_chart, histogram
from flukeprint.pages.templates import template
from flukeprint.pages.thumbnails import PhotoToDraw, Sheets, draw_sheets, upright
from flukeprint.quality.check import Checked
from flukeprint.quality.findings import Finding, as_csv

_LARGE, _SMALL = (176, 118), (84, 56)  # px: side by side, and in crowds
# Rules whose photos a person compares with one another.
_COMPARED = ("conflicting_labels",)
# With more photos than that, a rule's thumbnails are the recorded ones: grey, and less sharp.
_CROWD = 1500


def write_report(folder: Path, checked: Checked, params: ValidateParams, workers: int = 1) -> None:
    """Write `folder`/index.html, which can be handed on alone, and `folder`/findings.csv with every case."""
    page = render(checked, params, workers)
    with replacing_folder(folder) as temporary:
        (temporary / "index.html").write_text(page, encoding="utf-8")
        (temporary / "findings.csv").write_text(as_csv(_failed(checked.findings)), encoding="utf-8")


def refuse_other_files(folder: Path) -> None:
    """Require that `write_report` would replace nothing but a report."""
    if not folder.exists():
        return
    if not folder.is_dir() or {entry.name for entry in folder.iterdir()} - {"index.html", "findings.csv"}:
        raise FlukeprintError(
            f"{folder} holds other files than a report, and would be replaced. Name a new or an empty folder."
        )


def render(checked: Checked, params: ValidateParams, workers: int = 1) -> str:
    """Return the page."""
    pictures = _Thumbnails.of(checked, params, workers)
    failed = _failed(checked.findings)
    return template(__file__, "quality_report.html.j2").render(
        checked=checked,
        folder=checked.inputs.folder.name,
        errors=[finding for finding in failed if finding.level == "error"],
        warnings=[finding for finding in failed if finding.level == "warning"],
        failed=failed,
        passed=[finding for finding in checked.findings if not finding.failed],
        figures=_figures(checked),
        charts=_charts(checked.frames) if "train" in checked.frames else [],
        clusters=_conflicts(checked.frames) if "clusters" in checked.frames else {},
        compared=_COMPARED,
        pictures=pictures,
    )


def _failed(findings: Iterable[Finding]) -> list[Finding]:
    """Return the failed rules, errors first; of each level those with few cases first, which are read one by one."""
    failed = (finding for finding in findings if finding.failed)
    return sorted(failed, key=lambda finding: (finding.level, len(finding.cases)))


# --- pictures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Thumbnails:
    """The thumbnails of all flagged photos, in two sizes."""

    large: Sheets
    small: Sheets
    left_out: int  # flagged photos beyond validate.thumbnails

    @classmethod
    def of(cls, checked: Checked, params: ValidateParams, workers: int) -> _Thumbnails:
        failed = _failed(checked.findings)
        photos = _photos(checked.frames, {path for f in failed for case in f.cases for path in case.images})
        large = _decoded(_flagged((f for f in failed if f.rule in _COMPARED), photos))[: params.thumbnails]
        small: dict[str, PhotoToDraw] = {}
        for finding in failed:
            if finding.rule not in _COMPARED:
                shown = _flagged([finding], photos)
                # A crowd is drawn from the thumbnails recorded with the hashes: nothing is decoded once more.
                small |= {photo.path: photo for photo in (shown if len(shown) > _CROWD else _decoded(shown))}
        crowd = list(small.values())[: params.thumbnails - len(large)]
        folder, most = checked.inputs.folder, params.max_pixels
        return cls(
            draw_sheets("l", folder, large, _LARGE, workers, most),
            draw_sheets("s", folder, crowd, _SMALL, workers, most),
            len(small) - len(crowd),
        )

    def css(self) -> Markup:
        """Return the rules that give each sheet's cells their picture."""
        return self.large.css() + "\n" + self.small.css()

    def tag(self, path: str, large: bool) -> Markup:
        """Return the HTML of one thumbnail; an empty box says that there is none."""
        return (self.large if large else self.small).tag(path)


def _photos(frames: dict[str, pd.DataFrame], paths: set[str]) -> dict[str, PhotoToDraw]:
    """Return those of some photos that can be read, by path, with their recorded thumbnails."""
    photos = {}
    for frame in (frames[part] for part in ("train", "test") if part in frames):
        readable = frame[frame["path"].isin(paths) & frame["width"].notna()]
        columns = (readable[name] for name in ("path", "width", "height", "orientation", "thumbnail"))
        for path, width, height, orientation, thumbnail in zip(*columns, strict=True):
            photos[path] = PhotoToDraw(path, upright(width, height, orientation), thumbnail)
    return photos


def _flagged(findings: Iterable[Finding], photos: dict[str, PhotoToDraw]) -> list[PhotoToDraw]:
    """Return the flagged photos that can be shown, each once."""
    paths = dict.fromkeys(path for finding in findings for case in finding.cases for path in case.images)
    return [photos[path] for path in paths if path in photos]


def _decoded(photos: Iterable[PhotoToDraw]) -> list[PhotoToDraw]:
    return [replace(photo, recorded=None) for photo in photos]


# --- numbers and charts -----------------------------------------------------------------------------------


def _figures(checked: Checked) -> list[tuple[str, str]]:
    """Return the headline numbers as (number, what it counts)."""
    names = {
        "train_rows": "training photos",
        "labels": "labels",
        "new_whale_rows": "photos of new_whale",
        "test_photos": "test photos",
        "duplicate_clusters": "clusters of near-duplicates in train",
        "conflicting_clusters": "of them with conflicting labels",
        "test_photos_in_train": "test photos that are also in train",
        "excluded_rows": "rows excluded by choice",
    }
    return [(f"{checked.metrics[key]:,}", name) for key, name in names.items() if key in checked.metrics]


def _charts(frames: dict[str, pd.DataFrame]) -> list[Chart]:
    train = frames["train"]
    photos = pd.concat([train, frames["test"]], ignore_index=True).dropna(subset="width")
    width, height, size = (photos[name].astype(float) for name in ("width", "height", "bytes"))
    per_label = train.loc[train["Id"] != NEW_WHALE, "Id"].value_counts()
    modes = sorted(Counter(photos["mode"]).items(), key=lambda item: (-item[1], item[0]))
    drawn = {
        "Photos per individual": (
            "photos (new_whale left out); bars count individuals",
            histogram(per_label, [1, 2, 3, 4, 5, 6, 11, 16, 21, 31, 51], whole=True),
        ),
        "Shorter side": ("px, train and test", histogram(photos["short_side"], [32, 64, 100, 200, 400, 800, 1600])),
        "Width / height": ("train and test", histogram(width / height, [0.8, 1.2, 1.6, 2, 2.4, 2.8, 3.2])),
        "File size": ("kB, train and test", histogram(size / 1000, [1, 2, 5, 10, 50, 200, 1000])),
        "Mode": ("train and test", modes[:8]),
    }
    return [Chart(title, bar_chart(title, label, bars)) for title, (label, bars) in drawn.items()]


def _conflicts(frames: dict[str, pd.DataFrame]) -> dict[int, list[dict[Hashable, Any]]]:
    """Return the rows of each cluster with conflicting labels, by its number; those of one label stand together."""
    numbers = frames["clusters"].loc[frames["clusters"]["labels"] > 1, "cluster"]
    train = frames["train"]
    rows = train[train["cluster"].isin(numbers) & train["Id"].notna()].sort_values(["Id", "csv_line"])
    columns = ["path", "csv_line", "Id"]
    return {number: group[columns].to_dict("records") for number, group in rows.groupby(rows["cluster"].astype(int))}
