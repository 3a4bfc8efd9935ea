"""The commands of the catalogue with a real bundle: two from a folder per individual to answers, and all others."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from identify_project import NAMES, PHOTO_OF, ROOT, make_project
from keypoint_pictures import local_calibration
from PIL import Image
from quality_folder import texture

from flukeprint.bundle.bundle_manifest import write_manifest
from flukeprint.bundle.export import export_bundle
from flukeprint.bundle.opening import open_bundle
from flukeprint.catalogue.importing import Import
from flukeprint.cli.main import main
from flukeprint.core.files import sha256_of
from flukeprint.core.paths import RAW
from flukeprint.retrieval.local_matching import SiftMatcher
from flukeprint.scoring.local_calibration import MatcherRecord


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A bundle; photos of its project in a folder per individual; a season with copies of some, and others."""
    folder, here = tmp_path_factory.mktemp("project"), Path.cwd()
    make_project(folder, ("m1",))
    os.chdir(folder)
    try:
        export_bundle(Path("bundle"))
    finally:
        os.chdir(here)
    for name in NAMES:
        (folder / "known" / PHOTO_OF[name]).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / RAW / "train" / name, folder / "known" / PHOTO_OF[name] / name)
    for number in range(4):
        (folder / "season" / f"e{number // 2}").mkdir(parents=True, exist_ok=True)
        texture(50 + number, (96, 64)).save(folder / "season" / f"e{number // 2}" / f"s{number}.jpg")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """A folder without any project, in which a catalogue is to be made."""
    for name in ("bundle", "known", "season"):
        shutil.copytree(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLUKEPRINT_WHO", "ann")
    return tmp_path


def run(capsys, *arguments: str) -> str:
    main(["catalogue", *arguments])
    return capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["catalogue", *arguments])
    assert end.value.code not in (0, None)
    return str(end.value.code) + "".join(capsys.readouterr())


@pytest.fixture
def filled(here, capsys) -> Path:
    run(capsys, "create", "--bundle", "bundle", "--from", "known")
    return here


def test_two_commands_lead_from_tables_with_own_headers_to_answers(here, capsys):
    known = [f"{path.name};{path.parent.name}" for path in sorted((here / "known").glob("*/*"))]
    table = here / "known.csv"
    table.write_text("\n".join(["Aufnahme;Nummer", *known]), "utf-8-sig")
    said = ("--column", "image=Aufnahme", "--column", "individual=Nummer", "--photos", "known")
    assert "12 photos added" in run(capsys, "create", "--bundle", "bundle", "--from", "known.csv", *said)
    season = [f"{path.name};{path.parent.name}" for path in sorted((here / "season").glob("*/*"))]
    (here / "season.csv").write_text("\n".join(["Aufnahme;Anlass", *season]), "utf-8-sig")
    said = ("--column", "image=Aufnahme", "--column", "encounter=Anlass", "--photos", "season")
    assert len(json.loads(run(capsys, "identify", "season.csv", *said, "--json"))["queue"]) > 0
    assert "folder" in refused(capsys, "import", "season", *said)


def test_what_create_leaves_out_is_its_exit_code(here, capsys):
    (here / "known" / "broken.jpg").write_bytes(b"no photo")
    assert "12 photos added" in refused(capsys, "create", "--bundle", "bundle", "--from", "known")


def test_an_import_that_ctrl_c_interrupts_says_how_it_goes_on(here, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    photos = sorted((here / "known").glob("*/*"))
    table = ["Foto nr;Nummer", *(f"{path.name};{path.parent.name}" for path in photos)]
    (here / "known.csv").write_text("\n".join(table), "utf-8")
    options = ("--photos", "known", "--column", "image=Foto nr", "--column", "individual=Nummer")
    with monkeypatch.context() as patched:
        patched.setattr(Import, "carry_out", interrupted)
        said = refused(capsys, "create", "my whales", "--bundle", "bundle", "--from", "known.csv", *options)
        again = said.partition("Interrupted. What was added stays; to go on: ")[2].splitlines()[0]
        for command in (("import", "known"), ("identify", "season", "--json")):
            said = refused(capsys, *command, "--catalogue", "my whales")
            assert said == "130Interrupted. What was added stays; run the same command again to go on.\n"
    assert again == (
        "flukeprint catalogue import known.csv --folders individuals --photos known --who ann --column 'image=Foto nr' "
        "--column individual=Nummer --catalogue 'my whales'"
    )
    assert "12 photos added" in run(capsys, *shlex.split(again)[2:])


def test_two_commands_lead_from_folders_to_answers(here, capsys):
    assert "12 photos added" in run(capsys, "create", "whales", "--bundle", "bundle", "--from", "known")
    answers = run(capsys, "identify", "season", "--catalogue", "whales")
    assert "compared with 12 photos of 5 individuals" in answers
    assert "decide" in answers
    content = json.loads(run(capsys, "identify", "--catalogue", "whales", "--json"))
    assert sorted(number for one in content["queue"] for number in one["encounters"]) == [13, 14]
    proposed = next(line for line in answers.splitlines() if "flukeprint catalogue decide" in line)
    assert "saved: decision 13" in run(capsys, *shlex.split(proposed)[2:])


NETWORK = (
    *("--backbone", "shufflenet_v2_x0_5", "--weights", str(ROOT / "flukeprint/weights/sample_backbone.safetensors")),
    *("--size", "32x48", "--mean", "0.5", "0.5", "0.5", "--std", "0.25", "0.25", "0.25"),
)


def test_a_pretrained_network_answers_by_similarity_and_says_so(here, capsys):
    said = run(capsys, "create", "whales", *NETWORK, "--from", "known")
    assert "whales: a catalogue that answers with the network shufflenet_v2_x0_5, by similarity alone" in said
    shutil.copy(next((here / "known" / "w_b").iterdir()), here / "season" / "e0" / "copy.jpg")
    (here / "whales").rename(here / "moved")  # the network is in it
    there = ("--catalogue", "moved")
    text = run(capsys, "identify", "season", *there)
    assert "No probabilities: this model was never calibrated" in text
    assert "%" not in text
    content = json.loads(run(capsys, "identify", *there, "--json"))
    assert content["collapsed"] is None
    assert {one["new_probability"] for one in content["queue"]} == {None}
    assert {one["probability"] for asked in content["queue"] for one in asked["candidates"]} == {None}
    assert "More was not looked at: this model was never calibrated" in run(capsys, "audit", *there)
    card = (here / "moved" / "model" / "README.md").read_text()
    assert "sample_backbone.safetensors" in card
    assert str(ROOT) not in card
    assert "not empty" in refused(capsys, "create", "moved", *NETWORK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name what answers"),
        (("--bundle", "bundle", "--backbone", "resnet18"), "name what answers"),
        (("--backbone", "whalenet"), "--backbone is 'whalenet'"),
        (("--backbone", "resnet18", "--weights", "gone.pth"), "--weights is 'gone.pth', but there is no such file"),
        (("--backbone", "resnet18", "--weights", "bundle/README.md"), "Set --weights to a file"),
        (("--backbone", "resnet18", "--size", "9x9x9"), "--size 224 or 160x320"),
        (("--backbone", "resnet18", "--std", "0", "1", "1"), "--std"),
    ],
)
def test_a_network_that_cannot_be_had_is_refused_before_anything_is_made(here, capsys, options, message):
    assert message in refused(capsys, "create", "whales", *options)
    assert not (here / "whales").exists()


def test_answers_are_decided_logged_undone_and_shown(filled, capsys):
    run(capsys, "identify", "season")
    assert "saved: decision 13" in run(capsys, "decide", "confirm", "e13", "w_a")
    said = run(capsys, "decide", "confirm", "p14", "w_a", "--seen", "13")
    assert "flukeprint catalogue decide undo 14 --catalogue catalogue" in said
    assert "--seen 14" in refused(capsys, "decide", "unsure", "e13", "--who", "bob")
    run(capsys, "decide", "unsure", "e13", "--who", "bob", "--seen", "14", "--note", "fog")
    run(capsys, "decide", "new", "e14", "w_new")
    run(capsys, "decide", "split", "p15", "w_other", "--seen", "16")
    run(capsys, "decide", "reject", "e14", "w_new", "--seen", "17")
    run(capsys, "decide", "merge", "w_b", "w_c")
    run(capsys, "decide", "rename", "w_c", "--to", "w_z", "--name", "Zoë")
    run(capsys, "decide", "undo", "20", "19")
    log = [(one["action"], one["who"], one["holds"]) for one in json.loads(run(capsys, "log", "--json"))[12:]]
    assert log == [
        ("confirm", "ann", True), ("confirm", "ann", True), ("unsure", "bob", True), ("new", "ann", True),
        ("split", "ann", True), ("reject", "ann", True), ("merge", "ann", False), ("rename", "ann", False),
        ("undo", "ann", True), ("undo", "ann", True),
    ]  # fmt: skip
    assert len(run(capsys, "log").splitlines()) == 22
    assert "16 photos in 14 encounters" in run(capsys, "show")
    assert "(fog)" in run(capsys, "show", "e13")
    assert "w_a" in run(capsys, "show", "p14")
    assert "4 photos in 4 encounters" in run(capsys, "show", "w_b")
    assert "nothing called x9" in refused(capsys, "show", "x9")


def test_an_id_that_looks_like_another_is_said(filled, capsys):
    assert "! W-A looks like 'w_a'" in run(capsys, "decide", "new", "e1", "W-A", "--seen", "1")
    assert "looks like" not in run(capsys, "decide", "new", "e2", "w_q", "--seen", "2")


def test_an_id_that_says_that_nobody_knows_the_whale_is_said(filled, capsys):
    assert "! Unknown says that nobody knows" in run(capsys, "decide", "new", "e1", "Unknown", "--seen", "1")
    assert "! unid says that nobody knows" in run(capsys, "decide", "rename", "w_b", "--to", "unid")
    assert "! " not in run(capsys, "decide", "rename", "unid", "--to", "w_b")


def test_who_decides_against_a_picture_that_is_nearly_the_same_is_told_before_and_after(filled, capsys):
    with Image.open(filled / "known" / "w_a" / NAMES[0]) as image:
        image.save(filled / "season" / "e0" / "copy.png")
    number = 13  # the first photo of the season
    assert f"! p{number} is nearly the same picture as p1 of w_a" in run(capsys, "identify", "season")
    said = run(capsys, "decide", "confirm", "e13", "w_b")
    assert f"! p{number} is nearly the same picture as p1 of w_a, and now shows w_b\n" in said
    assert "undo 13" in said
    assert "! " not in run(capsys, "decide", "confirm", f"p{number}", "w_a", "--seen", "13")


@pytest.mark.parametrize("table", ["sightings", "individuals"])
def test_whoever_exports_a_table_for_excel_is_told_to_take_xlsx(capsys, table):
    main(["catalogue", "export", table, "--help"])
    assert ".xlsx (for Excel)" in " ".join(capsys.readouterr().out.split())


def test_two_individuals_are_joined_by_merge_alone_and_parted_by_the_line_that_is_printed(filled, capsys):
    assert "decide merge" in refused(capsys, "decide", "rename", "w_b", "--to", "w_a")
    assert "w_a already" in refused(capsys, "decide", "new", "e5", "w_a", "--seen", "5")
    said = run(capsys, "decide", "merge", "w_b", "w_a")
    assert "8 photos" in run(capsys, "show", "w_a")
    run(capsys, *shlex.split(said.split("To undo: ")[1].splitlines()[0])[2:])
    assert "4 photos" in run(capsys, "show", "w_a")
    assert "4 photos" in run(capsys, "show", "w_b")


@pytest.mark.parametrize("identity", ["../up", "a b", "\x1b[2J", "=1+1", "new_whale", ""])
def test_ids_that_cannot_be_used_change_nothing(filled, capsys, identity):
    log = run(capsys, "log")
    for arguments in (("new", "e1", identity, "--seen", "1"), ("rename", "w_a", f"--to={identity}")):
        assert "\x1b" not in refused(capsys, "decide", *arguments)
    assert run(capsys, "log") == log


def test_what_is_no_subject_or_no_name_is_refused(filled, capsys):
    assert "e12" in refused(capsys, "decide", "confirm", "12", "w_a")
    for subject, identity, what in (("e99", "w_a", "sightings"), ("e1", "w_99", "individuals")):
        said = refused(capsys, "decide", "confirm", subject, identity, "--seen", "1")
        assert f"`flukeprint catalogue export {what} FILE.csv` lists all of them" in said
    assert "what?" in refused(capsys, "decide", "confirm", "w_a")
    assert "--who" in refused(capsys, "decide", "unsure", "e1", "--who", " ", "--seen", "1")


def test_what_is_named_twice_is_decided_and_undone_once(filled, capsys):
    run(capsys, "identify", "season")
    before = len(run(capsys, "log").splitlines())
    number = run(capsys, "decide", "unsure", "e13", "e13").splitlines()[0].rpartition(" ")[2]
    assert "saved: decision" in run(capsys, "decide", "undo", number, number)
    assert [line.split()[3:] for line in run(capsys, "log").splitlines()[before:]] == [
        ["unsure", "e13", "[undone]"], ["undo", number],
    ]  # fmt: skip


def test_a_dry_run_says_row_by_row_what_would_happen_and_changes_nothing(filled, capsys):
    (filled / "known" / "w_a" / "broken.jpg").write_bytes(b"no photo")
    texture(70).save(filled / "known" / "w_b" / "more.jpg")
    said = run(capsys, "import", "known", "--dry-run")
    assert "w_b/more.jpg: will be added (w_b, encounter 'more.jpg')" in said
    assert "w_a/broken.jpg: refused: not an image" in said
    assert "14 rows: 1 will be added, 12 is there already, 1 refused. Nothing was changed." in said
    assert run(capsys, "show").startswith("12 photos")


def test_an_import_ends_with_1_if_something_was_left_out_and_adds_the_rest(filled, capsys):
    (filled / "known" / "w_a" / "broken.jpg").write_bytes(b"no photo")
    texture(70).save(filled / "known" / "w_b" / "more.jpg")
    said = refused(capsys, "import", "known")
    assert "broken.jpg: refused" in said
    assert "1 photo added, in 1 new encounter; 0 new individuals" in said
    assert "0 photos added" in refused(capsys, "import", "known")
    assert run(capsys, "check").startswith("the state is that of the log")


def test_an_audit_and_a_check(filled, capsys):
    assert "One whale under two ids" in run(capsys, "audit", "--top", "3")
    assert set(json.loads(run(capsys, "audit", "--json"))) == {
        *("second_names", "one_whale", "two_whales", "mislabelled", "without")
    }
    next((filled / "catalogue" / "photos").rglob("*.jpg")).unlink()
    assert "cannot be read" in refused(capsys, "check")


def test_another_bundle_embeds_everything_anew_and_answers_from_then_on(filled, made, capsys, tmp_path_factory):
    other, back = tmp_path_factory.mktemp("other"), Path.cwd()
    make_project_with_other_weights(other)
    os.chdir(other)
    export_bundle(Path("bundle"))
    os.chdir(back)
    assert "12 vectors computed" in run(capsys, "embed", "--bundle", str(other / "bundle"))
    assert "0 vectors computed" in run(capsys, "embed")
    shutil.rmtree(other / "bundle")
    assert "embed --bundle" in refused(capsys, "identify")
    assert "0 vectors computed" in run(capsys, "embed", "--bundle", "bundle")


def make_project_with_other_weights(folder: Path) -> None:
    back = Path.cwd()
    os.chdir(folder)
    make_project(Path(), ("m2",))
    os.chdir(back)


def test_nothing_is_made_where_something_is_wrong(here, capsys):
    assert "no bundle" in refused(capsys, "create", "whales", "--bundle", "known")
    assert "holds no photo" in refused(capsys, "create", "whales", "--bundle", "bundle", "--from", "bundle/members")
    assert not (here / "whales").exists()
    assert "no catalogue" in refused(capsys, "show", "--catalogue", "whales")
    assert not (here / "whales").exists()


def test_machines_that_are_not_there_or_have_nothing_to_read_are_refused_before_anything_is_made(here, capsys):
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    said = refused(capsys, "create", "whales", "--bundle", "bundle", "--from", "known", "--ray", "127.0.0.1:9")
    assert "no Ray that can be used at --ray '127.0.0.1:9'" in said
    for command in (("create", "whales", "--bundle", "bundle"), ("identify", "--catalogue", "whales")):
        assert "--ray says who reads new photos, and none are named" in refused(capsys, *command, "--ray", "auto")
    assert not (here / "whales").exists()


def test_it_runs_without_torch(here):
    code = (
        "import sys; sys.modules['torch'] = None; from flukeprint.cli.main import main;"
        "main(['catalogue', 'create', '--bundle', 'bundle', '--from', 'known']);"
        "main(['catalogue', 'identify', 'season']); main(['catalogue', 'audit'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "4 photos added" in found.stdout


# --- keypoints ----------------------------------------------------------------------------------------------------


@pytest.fixture
def networks(filled, monkeypatch) -> tuple[str, str]:
    """Two files of weights to whose keypoints the bundle was fitted; what reads them pairs keypoints by SIFT."""
    pytest.importorskip("cv2", reason="the extra local is not installed")
    paths = Path("aliked.pth"), Path("lightglue.pth")
    for path in paths:
        path.write_bytes(path.name.encode())

    def reads(*given: Path) -> SiftMatcher:
        assert given == paths
        return SiftMatcher()

    monkeypatch.setattr("flukeprint.identify.learned_matching.LightGlueMatcher", reads)
    record = MatcherRecord(name="lightglue", weights=[sha256_of(path) for path in paths])
    local_calibration(provenance=open_bundle(filled / "bundle").provenance, matcher=record).write(filled / "bundle")
    (filled / "bundle/manifest.json").unlink()
    write_manifest(filled / "bundle")
    return str(paths[0]), str(paths[1])


def test_networks_from_files_re_rank_and_without_them_no_photo_is_imported(networks, capsys):
    assert "fitted to keypoints by lightglue" in refused(capsys, "identify", "season", "--local")
    assert "--local is not there" in refused(capsys, "identify", "season", "--local-networks", *networks)
    assert "12 photos in" in run(capsys, "show")
    plain = json.loads(run(capsys, "identify", "season", "--json"))
    found = json.loads(run(capsys, "identify", "--local", "--local-networks", *networks, "--json"))
    one, other = ([entry["candidates"] for entry in content["queue"]] for content in (plain, found))
    assert one != other
    assert [{row["id"] for row in rows} for rows in one] == [{row["id"] for row in rows} for rows in other]


def test_printed_commands_can_be_copied_where_folders_have_blanks_in_their_names(filled, capsys):
    said = run(capsys, "snapshot", "--to", "my snapshots")
    command = shlex.split(said.rpartition("Train on it: ")[2])
    assert command[:-1] == ["dvc", "exp", "run", "-S", "profile=catalogue", "-S"]
    assert Path(command[-1].removeprefix("profiles.catalogue.path=")).is_file()
    shutil.copytree("catalogue", "my whales")
    with pytest.raises(SystemExit) as stopped:
        main(["review", "my whales", "--login", "--port", "0"])
    command = shlex.split(str(stopped.value).split("`")[1])
    assert command[command.index("--catalogue") + 1] == "my whales"
