"""The stage on a small generated project, and its page: complete, deterministic, loading nothing, safe."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from calibrations import calibration_of
from gallery_folder import PROVENANCE
from PIL import Image

from bench.evaluation import generate
from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation import report_words as words
from flukeprint.evaluation.evaluation_report import thumbnails
from flukeprint.evaluation.gallery_sizes import at_sizes
from flukeprint.evaluation.leaderboard import build_leaderboard
from flukeprint.evaluation.results import results_text
from flukeprint.pages.charts import Axis, Line, bar_chart, histogram, interval_chart, line_chart
from flukeprint.scoring.calibration import EARLIER, read_calibration, write_calibration
from flukeprint.scoring.registry import CHOOSABLE
from flukeprint.scoring.small_galleries import FullGallery
from stages import evaluate as stage

ROOT = Path(__file__).parents[2]
MEMBERS = ["m1", "m2"]
OUTPUTS = ("metrics/evaluation.json", "metrics/members.json", "metrics/breakdowns.json")
REPORT = "reports/evaluation/index.html"
HOSTILE = "<script>alert('x')</script>&\".jpg"


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    generate(folder, 45, 30, MEMBERS)
    evaluate(folder)
    return folder


@pytest.fixture
def project(generated, tmp_path, monkeypatch) -> Path:
    """A copy, to be changed and evaluated anew: the current folder."""
    shutil.copytree(generated, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return Path()


def evaluate(folder: Path) -> None:
    """Run the stage in a process of its own, as DVC does."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONHASHSEED": "random"}
    subprocess.run([sys.executable, "-m", "stages.evaluate"], cwd=folder, env=environment, check=True)


def outputs(folder: Path) -> dict[str, bytes]:
    files = [path for part in ("metrics", "reports") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_metrics_are_flat_with_the_members_apart(generated):
    evaluation, members, breakdowns = (json.loads((generated / name).read_text()) for name in OUTPUTS)
    assert evaluation["queries"] == 45
    assert evaluation["new_queries"] == 15
    results = {key for key, value in evaluation.items() if isinstance(value, dict)}
    assert results == {
        "all_new", "most_frequent", "duplicates", "pretrained_knn", *CHOOSABLE, "ensemble_class", "best",
    }  # fmt: skip
    assert set(members) == set(MEMBERS)
    for row in [*(evaluation[name] for name in results), *members.values()]:
        assert all(isinstance(value, float | int) for value in row.values())
        assert {"map5", "map5_low", "map5_high", "map5_plain", "top1", "known_top1", "known_top5", "new_top1"} <= set(
            row
        )
        assert row["map5_low"] <= row["map5"] <= row["map5_high"]
    assert evaluation["all_new"]["map5"] == 0.325
    assert set(breakdowns) == {"photos_per_id", "colour", "shorter_side", "near_duplicates"}


def test_probabilities_are_measured_in_galleries_of_several_sizes(generated):
    sizes = json.loads((generated / "metrics/gallery_sizes.json").read_text())
    assert {name: (row["individuals"], row["answers"]) for name, row in sizes.items()} == {
        "10": (10, 450), "all": (30, 45),
    }  # fmt: skip
    whole = json.loads((generated / "metrics/evaluation.json").read_text())["gallery"]
    assert [sizes["all"][key] for key in ("ece", "known_top1")] == [whole[key] for key in ("ece", "known_top1")]
    for name, row in sizes.items():
        assert 0 < row["ece_by_chance"] < 0.5
        points = json.loads((generated / f"metrics/curves/gallery_sizes/{name}.json").read_text())["points"]
        assert sum(point["queries"] for point in points) == row["answers"]
        assert words.size_name(name) in (generated / REPORT).read_text()


def test_similarities_of_other_queries_are_refused(generated):
    rows = pd.read_parquet(generated / "data/predictions/query.parquet")
    calibration = read_calibration(generated / "models/decision.json")
    leaderboard = build_leaderboard(rows[rows["split"] == "query"], calibration, 0.325, MEMBERS)
    other = FullGallery(np.array(["a"]), np.ones(1, int), np.zeros(1, int), lambda: iter([]))
    with pytest.raises(FlukeprintError, match="not of the same queries"):
        at_sizes(other, calibration, leaderboard)


def test_the_same_inputs_give_the_same_bytes(generated):
    first = outputs(generated)
    assert {REPORT, "reports/evaluation/queries.csv", "metrics/curves/cmc/ensemble.json"} <= set(first)
    evaluate(generated)
    assert outputs(generated) == first


class Page(html.parser.HTMLParser):
    """What a browser would load, run, or follow; and the texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.links += [named[key] for key in ("src", "href", "action", "data", "srcset") if key in named]
        self.ids += [named["id"]] if "id" in named else []
        assert not any(key.startswith("on") for key in named)

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_loads_nothing(generated):
    text = (generated / REPORT).read_text()
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert page.links
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    for url in re.findall(r"url\(([^)]*)\)", text):
        assert url.startswith("data:image/jpeg;base64,") or url[1:] in page.ids
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_the_page_has_every_part(generated):
    text = (generated / REPORT).read_text()
    page = Page(text)
    assert {
        "leaderboard",
        "curves",
        "pairs",
        "whom",
        "examples",
        "training",
        "protocol",
        "lot",
        "right",
        "new_wrong",
    } <= set(page.ids)
    said = " ".join("".join(page.texts).split())
    for title, _ in words.CURVES.values():
        assert title in said
    for _, title, explained in words.RANKING + words.OPEN_SET + words.CALIBRATION:
        assert title in said
        assert explained in said
    for phrase in (
        "People decide.",
        "Of 30 photos of whales that it knows, ",
        "Of 15 photos of whales that it has never seen, ",
        "single networks of the ensemble",
        "full fine-tuning: loss",
        *words.SIMILARITIES.values(),
    ):
        assert phrase in said
    # Each thumbnail is on a sheet that the style sheet has.
    sheets = set(re.findall(r'class="t p p(\d+)"', text))
    assert sheets
    assert all(f".p{number}{{background-image" in text for number in sheets)


def test_lists_without_a_query_are_named_at_the_end(project):
    table = pd.read_parquet(project / "data/predictions/query.parquet")
    table[table["truth"] == NEW_WHALE].to_parquet(project / "data/predictions/query.parquet")
    write_calibration(project / "models/decision.json", calibration_of())
    stage.main()
    text = (project / REPORT).read_text()
    assert "right" not in Page(text).ids
    assert "No query to show for: Known whales: right and most sure; Known whales: most confidently wrong" in text
    assert "no more than scores" in text


def test_names_cannot_become_markup(project):
    rename(project, pd.read_parquet(project / "data/predictions/query.parquet")["Image"].iloc[0], HOSTILE)
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(re.sub(r"examples: \d+", "examples: 100", params))
    stage.main()
    text = (project / REPORT).read_text()
    assert "alert(" in text
    assert "script" not in Page(text).tags
    assert HOSTILE in pd.read_csv(project / "reports/evaluation/queries.csv")["Image"].tolist()


def rename(folder: Path, old: str, new: str) -> None:
    """Give a photo another name in every table. Its file stays: a photo that cannot be read is an empty box."""
    for name in ("data/predictions/query.parquet", "data/selected/full.parquet", "data/validated/train.parquet"):
        table = pd.read_parquet(folder / name)
        table.assign(Image=table["Image"].replace(old, new)).to_parquet(folder / name)


def test_without_queries_the_page_says_so(project):
    table = pd.read_parquet(project / "data/predictions/query.parquet").iloc[:0]
    table.to_parquet(project / "data/predictions/query.parquet")
    write_calibration(project / "models/decision.json", calibration_of(fitted_to=PROVENANCE))
    stage.main()
    assert json.loads((project / "metrics/evaluation.json").read_text()) == {
        "queries": 0,
        "known_queries": 0,
        "new_queries": 0,
        "known_individuals": 0,
        "held_out_queries": 0,
        "new_whale_queries": 0,
        "held_out_individuals": 0,
    }
    page = (project / REPORT).read_text()
    assert "No photos were set aside" in page
    assert EARLIER in page
    assert (project / "reports/evaluation/queries.csv").read_text().startswith("scorer,Image,Id,truth,label_1")


def test_results_print_the_leaderboard_from_the_bottom_up(generated, monkeypatch):
    monkeypatch.chdir(generated)
    together = ["all_new", "most_frequent", "duplicates", "pretrained_knn", "ensemble", "ensemble_class"]
    together += [*CHOOSABLE[1:], "best"]
    for members, expected in ((False, together), (True, [*together[:4], *MEMBERS, *together[4:]])):
        lines = results_text(members=members).splitlines()
        assert lines[0] == "45 queries, 15 of them new whales"
        assert "Of 30 photos of whales that it knows, the best answer " in lines[1]
        start = next(place for place, line in enumerate(lines) if "MAP@5" in line) + 1
        rows = lines[start : start + len(expected)]
        assert [re.split(r"\s{2,}", row)[0] for row in rows] == [words.named(name) for name in expected]
        assert re.split(r"\s{2,}", rows[0])[1:5] == ["0.325", "0.325-0.325", "0 of 30", "0 of 30"]
        assert any("reports/evaluation/index.html" in line for line in lines)


def test_results_before_any_run_are_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlukeprintError, match="evaluation.json is missing"):
        results_text()


# --- photos, words and charts ---


def test_photos_outside_the_folder_are_not_opened(tmp_path):
    for name in ("inside/1.jpg", "outside.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 20), "red").save(tmp_path / name)
    names = ["1.jpg", "../outside.jpg"]
    photos = pd.DataFrame({"Image": names, "width": 40, "height": 20, "orientation": 1})
    sheets = thumbnails(tmp_path / "inside", photos, [*names, "1.jpg"], 1)
    assert list(sheets.places) == ["1.jpg"]
    assert "no picture" in sheets.tag("../outside.jpg")
    assert 'class="t p p0"' in sheets.tag("1.jpg")


def test_each_thumbnail_shows_its_own_photo(tmp_path):
    """The place in percent is turned back into pixels, as a browser does it, and the colour there looked up."""
    colours = [(n * 13 % 256, n * 57 % 256, n * 91 % 256) for n in range(20)]
    names = [f"{n}.png" for n in range(20)]
    for name, colour in zip(names, colours, strict=True):
        Image.new("RGB", (60, 30), colour).save(tmp_path / name)
    photos = pd.DataFrame({"Image": names, "width": 60, "height": 30, "orientation": 1})
    pictures = thumbnails(tmp_path, photos, names, 1)
    [uri] = pictures.images
    sheet = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    wide, high = (int(share) for share in re.search(r"background-size:(\d+)% (\d+)%", pictures.css()).groups())
    for name, colour in zip(names, colours, strict=True):
        across, down = re.search(r"background-position:([\d.]+)% ([\d.]+)%", pictures.tag(name)).groups()
        left = float(across) / 100 * (sheet.width - sheet.width * 100 / wide)
        top = float(down) / 100 * (sheet.height - sheet.height * 100 / high)
        middle = (round(left + sheet.width * 50 / wide), round(top + sheet.height * 50 / high))
        assert np.abs(np.subtract(sheet.getpixel(middle), colour)).max() < 12


def figures(gain, low, high, p):
    row = {"known_top1": 0.294, "known_top5": 0.4, "new_top1": 0.9, "map5": 0.5, "map5_low": 0.4, "map5_high": 0.6}
    return {"ensemble": row | {"gain": gain, "gain_low": low, "gain_high": high, "gain_p": p}}


@pytest.mark.parametrize(
    ("low", "high", "p", "says"),
    [
        (0.01, 0.2, 0.01, "is better than"),
        (-0.2, -0.01, 0.01, "is worse than"),
        (-0.1, 0.1, 0.01, "cannot be told from"),
        (0.01, 0.2, 0.12, "cannot be told from"),
    ],
)
def test_the_headline_claims_no_more_than_interval_and_test(low, high, p, says):
    leaderboard = build_leaderboard(ASKED, calibration_of(), 0.325, [])
    sentences = words.headline(leaderboard, figures(0.1, low, high, p))
    assert says in sentences[-1]
    assert "Of 17 photos" in sentences[0]
    assert "first for 5, and among its five answers for 7" in sentences[0]
    assert "Of 10 photos" in sentences[1]
    assert "first for 9." in sentences[1]
    assert "MAP@5 is 0.500 (95 % interval 0.400 to 0.600)" in sentences[2]


def test_names_are_plain_words_with_the_key():
    names = ["gallery", "ensemble", "m1"]
    assert [words.named(name) for name in names] == ["the photo search (gallery)", "the ensemble", "network m1"]


def test_the_first_sentence_does_not_boast_of_none():
    found = figures(0.1, 0.0, 0.2, 0.5)["ensemble"] | {"known_top1": 0.0}
    sentence = words.natural("ensemble", {"known_queries": 17, "new_queries": 10}, found)[0]
    assert "among its five answers for 7, but never first" in sentence


# 17 photos of a known whale and 10 of new ones.
ASKED = pd.DataFrame(
    {
        "Image": [f"{number}.jpg" for number in range(27)],
        "Id": ["a"] * 17 + [NEW_WHALE] * 10,
        "truth": ["a"] * 17 + [NEW_WHALE] * 10,
        "scorer": "ensemble",
        "candidates": [["a"]] * 27,
        "scores": [[1.0]] * 27,
        "new_score": 0.0,
    }
)


def line_of(svg, colour):
    """Return the points of the first line of a colour; the key comes after it."""
    path, *_ = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: {colour}', svg)
    return [tuple(map(float, point)) for point in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]


BLUE = "#0072b2"


def test_lines_are_drawn_to_scale():
    axis = Axis("share <x>", 0.0, 1.0)
    line = Line("line", [(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)], 4)
    svg = line_chart("a & b", axis, axis, [line], mark=0.5)
    assert 'role="img" aria-label="a &amp; b: share &lt;x&gt; over share &lt;x&gt;, for line"' in svg
    start, middle, end = line_of(svg, BLUE)
    assert middle[0] == pytest.approx((start[0] + end[0]) / 2, abs=0.1)
    assert start[1] - middle[1] == pytest.approx((start[1] - end[1]) / 4, abs=0.2)
    assert end[0] > start[0]
    assert end[1] < start[1]
    assert svg.count(f"M {middle[0]:g} ") >= 1  # the mark
    assert svg == line_chart("a & b", axis, axis, [line], mark=0.5)


def test_rates_are_drawn_by_powers_of_ten():
    axis = Axis("far", 1e-4, 1.0, percent=True)
    svg = line_chart("t", axis, Axis("tar", 0.0, 1.0), [Line("one", [(1e-4, 0.0), (1e-2, 0.5), (1.0, 1.0)], 4)])
    start, middle, end = line_of(svg, BLUE)
    assert middle[0] == pytest.approx((start[0] + end[0]) / 2, abs=0.1)
    assert all(f">{text} %<" in svg for text in ("0.01", "0.1", "1", "10", "100"))


def test_lines_of_one_name_share_an_entry_of_the_key():
    lines = [Line("m", [(0.0, 0.0), (1.0, height)], 4) for height in (0.5, 1.0)]
    svg = line_chart("t", Axis("x"), Axis("y"), lines)
    assert svg.count(">m<") == 1
    assert 'aria-label="t: y over x, for m"' in svg


def test_an_interval_ends_where_it_should():
    svg = interval_chart("t", "MAP@5", {"one": (0.25, 0.5, 1.0), "other": (0.0, 0.5, 0.5)}, mark=0.5)
    spans = [
        tuple(map(float, x)) for x in re.findall(r'd="M ([\d.]+) [\d.]+ L ([\d.]+) [\d.]+ "[^>]*stroke: #1c2733', svg)
    ]
    (low, high), (zero, half) = spans
    assert (half - zero) / (high - zero) == pytest.approx(1 / 2, abs=0.01)
    assert (low - zero) / (high - zero) == pytest.approx(1 / 4, abs=0.01)
    assert 'aria-label="t: MAP@5: one 0.500 (0.250 to 1.000), other 0.500 (0.000 to 0.500)"' in svg


def test_charts_load_nothing_and_refer_to_their_own_shapes():
    svg = bar_chart("t", "px", [("a", 1), ("b", 3)]) + line_chart("u", Axis("x"), Axis("y"), [Line("m", [(0, 1)], 3)])
    assert not re.search(r"https?:|<style|<script|font-family|xlink", svg)
    ids = re.findall(r' id="([^"]*)"', svg)
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) == set(ids)


def test_values_are_counted_from_edge_to_edge():
    assert histogram([0.5, 1, 1.5, 2, 9], [1, 2, 5]) == [("<1", 1), ("1–", 2), ("2–", 1), ("≥5", 1)]
    assert histogram([1, 1, 2, 4, 5, 9], [1, 2, 3, 6], whole=True) == [("1", 2), ("2", 1), ("3–5", 2), ("≥6", 1)]
