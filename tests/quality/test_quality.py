import json
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_faults import ALONE, PHOTOS, ROWS, TEST, jpeg, plant_all, write_photo
from quality_folder import HEADER, Folder, texture

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import UnknownParams, check_params, load_params
from flukeprint.core.safe_text import printable
from flukeprint.data.cropping import Found, remarks
from flukeprint.data.inspection import inspect_photo
from flukeprint.pages.charts import bar_chart, histogram
from flukeprint.quality.check import check_folder
from flukeprint.quality.findings import Case, Finding, as_csv, summary
from flukeprint.quality.flags import Limits, flags_of
from flukeprint.quality.quality_report import render, write_report
from flukeprint.quality.rules import RULES, levels
from flukeprint.quality.schema import arrow_table, schema

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def params():
    return load_params(("validate",), ROOT / "params.yaml").validate


@pytest.fixture(scope="module")
def check(params):
    """Check a folder with some levels or bounds changed, without a network."""

    def run(folder, rules=None, exclusions=None, **bounds):
        changed = params.model_copy(update={"rules": rules or {}, **bounds})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "connect", _no_network)
            patch.setattr(socket, "getaddrinfo", _no_network)
            return check_folder(folder.path, changed, exclusions=exclusions)

    return run


def _no_network(*_, **__):
    raise AssertionError("the network was touched")


def found(checked, rule):
    return next(finding for finding in checked.findings if finding.rule == rule)


def failed(checked):
    return {finding.rule: len(finding.cases) for finding in checked.findings if finding.failed}


# --- planted faults in rows and photos: all in one folder, each found -------------------------------------


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory, check):
    """A folder with every fault of PHOTOS, ROWS and TEST, and in which row of train.csv each is."""
    folder = Folder.make(tmp_path_factory.mktemp("spoiled") / "raw")
    rows = plant_all(folder)
    return check(folder), rows, folder


@pytest.mark.parametrize("name", PHOTOS)
def test_a_spoiled_photo_is_named_with_row_and_cause(spoiled, name):
    checked, rows, _ = spoiled
    _, rule, level, says = PHOTOS[name]
    finding = found(checked, rule)
    cases = [case for case in finding.cases if case.where == f"train.csv row {rows[name]}"]
    assert finding.level == level
    assert any(says in case.says and name in case.says for case in cases), finding.cases


@pytest.mark.parametrize("line", ROWS)
def test_a_spoiled_row_is_named_with_its_value(spoiled, line):
    checked, rows, _ = spoiled
    rule, level, says = ROWS[line]
    finding = found(checked, rule)
    cases = [case for case in finding.cases if case.where == f"train.csv row {rows[line]}"]
    assert finding.level == level
    assert any(says in case.says for case in cases), finding.cases


@pytest.mark.parametrize("fault", TEST)
def test_a_fault_in_test_or_submission_is_named(spoiled, fault):
    rule, level, where, says = TEST[fault]
    finding = found(spoiled[0], rule)
    assert finding.level == level
    assert any(case.where == where and says in case.says for case in finding.cases), finding.cases


def test_nothing_but_what_was_planted_is_found(spoiled):
    checked, rows, _ = spoiled
    planted = {f"train.csv row {row}" for row in rows.values()}
    for finding in checked.findings:
        for case in finding.cases:
            match = re.fullmatch(r"train.csv row (\d+)", case.where)
            first_listings = finding.rule == "photo_listed_once"
            assert not match or case.where in planted or first_listings, (finding.rule, case)


def test_every_message_is_one_printable_line(spoiled):
    for finding in spoiled[0].findings:
        assert all(case.says.isprintable() and case.where.isprintable() for case in finding.cases)
        assert finding.repair.endswith(".")


def test_the_report_of_a_spoiled_folder_is_complete_and_harmless(spoiled, params):
    checked, _, _ = spoiled
    page = render(checked, params)
    assert all(f'id="{rule}"' in page for rule in failed(checked))
    assert not re.search(r"https?://|<script|\ssrc=|<link", page)
    assert "Refused" in page
    page.encode()


def test_errors_refuse_the_folder_in_one_message(spoiled):
    with pytest.raises(Exception, match="does not pass") as caught:
        spoiled[0].refuse_errors(Path("reports"))
    message = str(caught.value)
    assert "train/missing.jpg is missing" in message
    assert "... and" not in message or "more" in message
    assert "reports/index.html" in message


# --- faults after which photos are not looked at ----------------------------------------------------------


@pytest.mark.parametrize("name", ALONE)
def test_a_fault_that_is_planted_alone_is_named(tmp_path, check, name):
    fault = ALONE[name]
    folder = Folder.make(tmp_path / "raw")
    fault.plant(folder)
    finding = found(check(folder, exclusions=tmp_path / "exclusions.csv", **fault.bounds), fault.rule)
    assert finding.level == fault.level
    assert [case.where for case in finding.cases] == [fault.where]
    assert fault.says in finding.cases[0].says


def test_a_fault_of_every_rule_is_planted():
    planted = {rule for _, rule, *_ in PHOTOS.values()} | {rule for rule, *_ in (*ROWS.values(), *TEST.values())}
    # What a localiser says is no fault of files: test_what_a_localiser_says_of_photos_becomes_warnings.
    assert planted | {fault.rule for fault in ALONE.values()} == {rule.name for rule in RULES if not rule.of_flukes}


def test_what_a_localiser_says_of_photos_becomes_warnings(tmp_path, params):
    folder = Folder.make(tmp_path / "raw")
    unsaid = {finding.rule for finding in check_folder(folder.path, params).findings}
    without, turned = Found(0.1, 0.2, 0.9, 0.8, 0.12, 0.9), Found(0.1, 0.2, 0.9, 0.8, 0.99, 0.97)
    flukes = {"train": {"t00.jpg": remarks(without, 0.5), "t01.jpg": remarks(turned, 0.5)}, "test": {}}
    checked = check_folder(folder.path, params, flukes=flukes)
    assert {finding.rule for finding in checked.findings} - unsaid == {"photo_fluke", "photo_upside_down"}
    [case] = found(checked, "photo_fluke").cases
    assert (case.where, case.images) == ("train.csv row 2", ("train/t00.jpg",))
    assert case.says == "no fluke was found in train/t00.jpg: confidence 0.12, expected 0.5"
    [case] = found(checked, "photo_upside_down").cases
    assert case.says == "the fluke of train/t01.jpg seems to stand upside down: probability 0.97"
    assert checked.errors == []
    assert len(checked.frames["train"]) == 12  # nothing is dropped
    assert checked.metrics["rules"]["photo_fluke"] == 1
    assert "photo_fluke" not in check_folder(folder.path, params).metrics["rules"]


# --- rules about all rows, duplicates, exclusions, levels -------------------------------------------------


def test_a_folder_in_order_passes_and_gives_the_declared_table(tmp_path, check):
    checked = check(Folder.make(tmp_path / "raw"))
    assert failed(checked) == {}
    train = arrow_table(checked.frames["train"], labelled=True)
    test = arrow_table(checked.frames["test"], labelled=False)
    assert train.schema.equals(schema(labelled=True), check_metadata=True)
    assert train["Image"].to_pylist() == [f"t{number:02}.jpg" for number in range(12)]
    assert test["Image"].to_pylist() == ["q0.jpg", "q1.jpg", "q2.jpg"]
    assert train["cluster"].to_pylist() + test["cluster"].to_pylist() == list(range(15))
    assert train.schema.field("width").metadata[b"unit"] == b"px"
    assert train["csv_line"].to_pylist() == list(range(2, 14))


JUNK = ("Thumbs.db", "desktop.ini", ".DS_Store", "._t00.jpg", "t00.xmp", "t00.CR2")


def litter(folder):
    for part in ("train", "test"):
        (folder.path / part / "@eaDir").mkdir()
        (folder.path / part / "@eaDir/t00.jpg").write_bytes(b"thumbnail")
        for name in JUNK:
            (folder.path / part / name).write_bytes(b"no photo")


def test_what_is_no_photo_is_left_alone_counted_and_named(tmp_path, check, params):
    folder = Folder.make(tmp_path / "raw")
    litter(folder)
    checked = check(folder)
    assert failed(checked) == {"photo_raw": 1}  # in train/ a photo of its name lies beside it
    assert checked.metrics["other_files"] == 2 * (len(JUNK) + 1)
    assert [note.split(" other file")[0] for note in checked.notes] == ["train/: 7", "test/: 7"]
    assert "@eaDir/, Thumbs.db, desktop.ini" in checked.notes[0]
    assert "Left alone" in render(checked, params)


def test_the_pipeline_leaves_alone_what_the_check_does(tmp_path, check, caplog):
    from flukeprint.data.sources import fetch

    folder = Folder.make(tmp_path / "mine")
    folder.save("train/noted", texture(50))
    folder.add_row("noted,w_a")  # a table names it, so it is a photo whatever its name
    litter(folder)
    fetch("folder", tmp_path / "raw", str(folder.path), 0)
    raw, own = check(Folder(tmp_path / "raw")), check(folder)
    assert raw.frames["train"].equals(own.frames["train"])
    assert raw.frames["test"].equals(own.frames["test"])
    assert "noted" in raw.frames["train"]["Image"].to_list()
    assert raw.metrics["other_files"] == 0
    assert caplog.text.count("7 other file(s)") == 2


@pytest.mark.parametrize("as_new", [False, True])
def test_labels_that_say_unknown_are_warned_of_or_read_as_new_whale(tmp_path, check, as_new):
    folder = Folder.make(tmp_path / "raw")
    for row, label in ((2, "unknown"), (3, "NA"), (4, "New_Whale")):
        folder.set_row(row, f"t{row - 2:02}.jpg,{label}")
    unknown = UnknownParams(words=["Unknown", "n/a"], as_new_whale=as_new)
    checked = check(folder, unknown=unknown)
    assert failed(checked) == ({} if as_new else {"label_unknown": 3, "label_spelling": 1})
    assert checked.metrics["read_as_new_whale"] == (3 if as_new else 0)
    assert checked.metrics["new_whale_rows"] == (5 if as_new else 2)
    assert [note.split(" of train.csv")[0] for note in checked.notes] == (["3 row(s)"] if as_new else [])
    written = arrow_table(checked.frames["train"], labelled=True)["Id"].to_pylist()[:3]
    assert written == (["new_whale"] * 3 if as_new else ["unknown", "NA", "New_Whale"])


@pytest.mark.parametrize("left", ["nothing", "an empty test/ and a header"])
def test_a_catalogue_with_nothing_to_label_passes(tmp_path, check, params, left):
    folder = Folder.make(tmp_path / "raw")
    shutil.rmtree(folder.path / "test")
    (folder.path / "sample_submission.csv").unlink()
    if left != "nothing":
        (folder.path / "test").mkdir()
        folder.write("sample_submission.csv", [HEADER])
    checked = check(folder)
    assert failed(checked) == {}
    assert arrow_table(checked.frames["test"], labelled=False).num_rows == 0
    write_report(tmp_path / "report", checked, params)
    assert (tmp_path / "report/index.html").exists()


def test_a_header_alone_does_not_stand_for_test_photos(tmp_path, check):
    folder = Folder.make(tmp_path / "raw")
    folder.write("sample_submission.csv", [HEADER])
    assert failed(check(folder)) == {"row_count": 1, "submission_matches_test": 3}


def test_encounters_and_dates_of_train_csv_come_into_the_table_if_there_are_any(tmp_path, check):
    folder = Folder.make(tmp_path / "raw")
    rows = folder.lines()[1:]
    folder.write("train.csv", [f"{HEADER},encounter,taken_at", *(f"{row},,2024-07" for row in rows)])
    table = arrow_table(check(folder).frames["train"], labelled=True)
    assert table.schema.equals(schema(labelled=True, optional=["taken_at"]), check_metadata=True)
    assert table["taken_at"].to_pylist() == ["2024-07"] * 12
    dated = [f"{row},e{number // 3},{2020 + number}" if number else f"{row},," for number, row in enumerate(rows)]
    folder.write("train.csv", [f"{HEADER},encounter,taken_at", *dated])
    table = arrow_table(check(folder).frames["train"], labelled=True)
    assert table["encounter"].to_pylist() == [None, *(f"e{number // 3}" for number in range(1, 12))]
    assert table["taken_at"].to_pylist() == [None, *(f"{2020 + number}" for number in range(1, 12))]


def test_labels_that_leave_nothing_to_tell_apart(tmp_path, check):
    folder = Folder.make(tmp_path / "raw")
    folder.write("train.csv", [HEADER, *(f"t{number:02}.jpg,new_whale" for number in range(12))])
    checked = check(folder)
    assert {"label_count", "new_whale_share"} == set(failed(checked))
    assert found(checked, "label_count").cases[0].says == "1 distinct labels"
    assert found(checked, "new_whale_share").cases[0].says == "the share is 1.000"


def test_copies_are_clustered_and_conflicts_named(tmp_path, check):
    folder = Folder.make(tmp_path / "raw")
    folder.save("train/copy.jpg", texture(0), quality=60)
    folder.add_row("copy.jpg,w_b")
    folder.save("train/new.jpg", texture(4), quality=60)
    folder.add_row("new.jpg,new_whale")
    folder.save("test/q2.jpg", texture(8), quality=60)
    checked = check(folder)
    assert failed(checked) == {"near_duplicates": 2, "conflicting_labels": 2, "paired_labels": 1, "test_in_train": 1}
    assert not checked.errors
    assert found(checked, "conflicting_labels").cases[0].says == (
        "cluster 0 has 2 labels: t00.jpg (row 2, w_a), copy.jpg (row 14, w_b)"
    )
    assert found(checked, "conflicting_labels").cases[0].images == ("train/t00.jpg", "train/copy.jpg")
    assert found(checked, "paired_labels").cases[0].says == "w_a and w_b share 1 cluster(s) of near-duplicates"
    assert found(checked, "test_in_train").cases[0].says == "test/q2.jpg is the same picture as train/t08.jpg"
    assert checked.metrics["conflicting_clusters"] == 2


def test_exclusions_are_applied_counted_and_checked(tmp_path, check, params):
    folder = Folder.make(tmp_path / "raw")
    (folder.path / "train/t11.jpg").write_bytes(b"")
    exclusions = tmp_path / "exclusions.csv"
    exclusions.write_text("Image,reason\nt11.jpg,lost\nq0.jpg,a test photo\nnone.jpg,typing error\n")
    checked = check(folder, exclusions=exclusions)
    assert failed(checked) == {"exclusions_known": 2}
    assert found(checked, "exclusions_known").cases[0].where == "exclusions.csv row 3"
    assert checked.excluded == ["excluded t11.jpg (1 row(s)): lost"]
    assert checked.metrics["excluded_rows"] == 1
    assert len(checked.frames["train"]) == 11
    assert "Excluded by choice" in render(checked, params)


@pytest.mark.parametrize(
    ("content", "rule"),
    [("Image,reason\nt11.jpg,\n", "blank_cells"), ("Image\nt11.jpg\n", "table_header"), ("", "table_header")],
)
def test_exclusions_need_a_reason_and_a_header(tmp_path, check, content, rule):
    exclusions = tmp_path / "exclusions.csv"
    exclusions.write_text(content)
    checked = check(Folder.make(tmp_path / "raw"), exclusions=exclusions)
    assert failed(checked) == {rule: 1}
    assert checked.excluded == []


def test_levels_decide_what_stops(tmp_path, check):
    folder = Folder.make(tmp_path / "raw")
    folder.save("train/t00.jpg", texture(0, (20, 20)))
    folder.save("train/t01.jpg", texture(1).convert("L"))
    checked = check(folder, rules={"photo_size": "error", "photo_grey": "off"})
    assert [finding.rule for finding in checked.findings if finding.failed] == ["photo_size"]
    assert len(checked.errors) == 1
    assert found(checked, "photo_grey").status == "not checked"
    assert "photo_grey" not in checked.metrics["rules"]


def test_the_same_data_gives_the_same_bytes(tmp_path, check, params):
    folder = Folder.make(tmp_path / "raw")
    folder.save("train/copy.jpg", texture(0), quality=60)
    folder.add_row("copy.jpg,w_b")
    for name in ("one", "two"):
        write_report(tmp_path / name, check(folder), params)
    for name in ("index.html", "findings.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_thumbnails_are_limited_and_that_is_said(tmp_path, check, params):
    folder = Folder.make(tmp_path / "raw")
    for number in range(4):
        folder.save(f"train/t0{number}.jpg", texture(number).convert("L"))
    page = render(check(folder), replace_thumbnails(params, 3))
    assert "1 thumbnails are left out" in page
    assert page.count('class="t s s0"') == 3


def replace_thumbnails(params, number):
    return params.model_copy(update={"thumbnails": number})


# --- the rules themselves ---------------------------------------------------------------------------------


def test_the_rules_hold_the_levels_and_params_change_single_ones(params):
    assert params.rules == {}
    assert levels({}) == {rule.name: rule.level for rule in RULES}
    assert levels({"photo_grey": "off", "layout": "error"}) == levels({}) | {"photo_grey": "off"}
    assert {rule.name for rule in RULES if rule.required} >= {"plain_names", "photo_decodes", "blank_cells"}


@pytest.mark.parametrize(
    ("rules", "messages"),
    [
        ({"no_such_rule": "error"}, ["validate.rules.no_such_rule", "the rules are layout, table_header, "]),
        (
            {"photo_decodes": "off", "layout": "warning"},
            ["validate.rules.photo_decodes: is 'off'", "validate.rules.layout"],
        ),
    ],
)
def test_levels_that_cannot_be_are_refused_before_photos_are_read(tmp_path, check, rules, messages):
    with pytest.raises(FlukeprintError) as caught:
        check(Folder(tmp_path / "nothing here"), rules=rules)
    assert all(message in str(caught.value) for message in messages)


def test_what_identification_says_of_a_photo_follows_from_the_rules(tmp_path, check):
    """The same photos break the same rules, whether the rules run on a folder or on one record."""
    folder = Folder.make(tmp_path / "raw")
    for name, (content, rule, level, _) in PHOTOS.items():
        if level == "warning" and rule != "photo_format":
            write_photo(folder.path / "train" / name, content)
            folder.add_row(f"{name},w_c")
    flagged = {rule.name for rule in RULES if rule.flag and not rule.of_flukes}
    checked = check(folder, min_side=40, min_contrast=40.0, modes=["RGB", "P"])
    limits = Limits(min_side=40, min_contrast=40.0, modes=["RGB", "P"])
    broken = {
        (f.rule, image) for f in checked.findings if f.rule in flagged for case in f.cases for image in case.images
    }
    said = {
        (flag.rule, f"{part}/{path.name}")
        for part in ("train", "test")
        for path in (folder.path / part).iterdir()
        for flag in flags_of(inspect_photo(path.parent, path.name), limits)
    }
    assert said == broken
    assert {rule for rule, _ in said} == flagged
    assert len(flagged) == 7


def test_every_rule_says_why_and_what_to_do(params):
    for rule in RULES:
        assert rule.reason.endswith(".")
        assert rule.repair.endswith(".")
        assert rule.expects.format(p=params)
        assert rule.check.on


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": {"photo_grey": "loud"}}, "validate.rules.photo_grey"),
        ({"rows": [5, 2]}, "rows is [5, 2], expected [least, most]"),
        ({"label_pattern": "("}, "not a regular expression"),
        ({"label_pattern": "(?i)w_.*"}, "not a regular expression"),
    ],
)
def test_params_that_cannot_be_are_refused(change, message):
    import yaml

    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["validate"] |= change
    with pytest.raises(Exception, match=re.escape(message)):
        check_params(content)


def test_off_is_a_word_in_both_versions_of_yaml():
    import yaml

    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["validate"]["rules"]["photo_grey"] = yaml.safe_load("off")
    assert check_params(content).validate.rules["photo_grey"] == "off"


def test_great_expectations_is_only_imported_when_rules_run():
    code = (
        "import sys, stages.validate, flukeprint.cli, flukeprint.core.params; "
        "sys.exit(any(name.startswith(('great_expectations', 'jinja2')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- words and charts -------------------------------------------------------------------------------------


def test_a_summary_names_the_first_ten_and_what_to_do():
    cases = tuple(Case(f"train.csv row {n}", "is wrong", ()) for n in range(12))
    text = summary(Finding("some_rule", "warning", "failed", "it is right", "Because.", "Repair it.", cases))
    assert text.startswith("warning some_rule: 12 cases. Expected: it is right.")
    assert text.count("is wrong") == 10
    assert "... and 2 more" in text
    assert text.endswith("What to do: Repair it.")


@given(st.text(st.characters(), max_size=30))
def test_what_is_printed_is_printable(text):
    assert printable(text).isprintable()


@given(st.text(max_size=30))
def test_a_spreadsheet_runs_nothing_of_the_csv(text):
    case = Case(printable(text), printable(text), (printable(text),))
    finding = Finding("r", "error", "failed", "", "", "", (case,))
    import csv
    import io

    (_, row) = csv.reader(io.StringIO(as_csv([finding])))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


@given(st.lists(st.integers(1, 500)))
def test_charts_count_every_value_once(values):
    assert sum(count for _, count in histogram(values, [1, 2, 10, 50], whole=True)) == len(values)
    assert sum(count for _, count in histogram(values, [2, 30, 100])) == len(values)


def test_a_chart_escapes_its_labels():
    assert "<b>" not in bar_chart("t", "a", [("<b>", 1)])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=8))
def test_no_table_of_text_makes_the_frames_fail(tmp_path_factory, params, rows):
    import csv

    from flukeprint.quality.frames import photo_frames, read_inputs, table_frames

    folder = tmp_path_factory.mktemp("raw")
    for name in ("train", "test"):
        (folder / name).mkdir()
    (folder / "train" / "a.jpg").write_bytes(jpeg())
    for name in ("train.csv", "sample_submission.csv"):
        with (folder / name).open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("Image", "Id"), ("a.jpg", "w_a"), *rows])
    inputs = read_inputs(folder, 1000)
    assert inputs.readable
    assert set(table_frames(inputs, params)) == {"files", "malformed"}
    frames = photo_frames(inputs, params, 1)
    assert len(frames["train"]) + inputs.tables["train"].faulty == 1 + len(rows)


def test_findings_are_json(spoiled):
    assert json.loads(json.dumps(spoiled[0].metrics))["errors"] > 5
    assert replace(spoiled[0].findings[0], level="off").level == "off"


def test_a_folder_without_any_readable_photo_is_refused_like_any_other(tmp_path, check, params):
    folder = Folder.make(tmp_path / "raw")
    for photo in (*folder.path.glob("train/*"), *folder.path.glob("test/*")):
        photo.write_bytes(b"no photo")
    checked = check(folder)
    assert failed(checked) == {"photo_decodes": 15}
    assert "no picture" in render(checked, params)
