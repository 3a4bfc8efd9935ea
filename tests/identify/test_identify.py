"""Identification and verification of photos with a tiny project: vectors, candidates, formats, the page, errors."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from calibrations import calibration_of
from identify_project import IDS, NAMES, PHOTO_OF, SIZE, decision, make_project
from PIL import Image
from quality_folder import texture

from flukeprint.bundle.album import entry_of, write_album
from flukeprint.bundle.encoder import Encoder, encode_photos
from flukeprint.bundle.opening import open_model
from flukeprint.cli.main import main
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json, write_json
from flukeprint.core.paths import DECISION, GALLERY, RAW, VALIDATED
from flukeprint.data.inspection import inspect_photo, read_photos
from flukeprint.data.photos import read_rgb
from flukeprint.identify.answers import identify
from flukeprint.identify.formats import COLUMNS, as_csv, as_json, as_table
from flukeprint.identify.identification_page import write_page
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery
from flukeprint.scoring.calibration import EARLIER, read_calibration, write_calibration


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    make_project(folder)
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch) -> Path:
    """A project of its own, which is the current folder."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return Path()


def run(capsys, *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


# --- vectors ----------------------------------------------------------------------------------------------


@pytest.mark.numeric
@pytest.mark.parametrize("workers", [1, 3])
def test_vectors_are_those_of_the_pipeline(project, workers):
    model = open_model(None, None)
    encoded = encode_photos(model.encoder, [RAW / "train" / name for name in NAMES], workers, batch_size=4)
    gallery = load_gallery(GALLERY)
    row = {photo.image: number for number, photo in enumerate(gallery.photos)}
    assert [photo.path.name for photo in encoded.photos] == NAMES
    expected = gallery.vectors[[row[name] for name in NAMES]]
    assert np.abs(encoded.vectors - expected).max() <= 1e-5
    assert encoded.vectors.dtype == np.float32


def test_a_photo_is_read_once_with_the_record_and_the_pixels_of_the_two_readers(tmp_path):
    kinds = {"rgb.png": "RGB", "grey.png": "L", "palette.png": "P", "alpha.png": "RGBA", "ink.tif": "CMYK"}
    for seed, (name, mode) in enumerate(kinds.items()):
        texture(seed).convert(mode).save(tmp_path / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    texture(9).save(tmp_path / "turned.jpg", exif=exif)
    for name in [*kinds, "turned.jpg"]:
        ((record, pixels),) = read_photos([tmp_path / name], SIZE)
        assert record == inspect_photo(tmp_path, name)
        assert np.array_equal(pixels, read_rgb(tmp_path, name, SIZE))


def test_photos_that_cannot_be_read_are_set_apart_wherever_they_stand(project):
    photos = [RAW / "train" / name for name in NAMES[:5]]
    broken = Path("broken.jpg")
    broken.write_bytes(photos[0].read_bytes()[:200])
    model = open_model(None, None)
    photos_and_faults = [broken, *photos[:2], Path("missing.jpg"), *photos[2:]]
    encoded = encode_photos(model.encoder, photos_and_faults, 2, batch_size=2)
    assert [photo.path for photo in encoded.photos] == photos
    assert [photo.path.name for photo in encoded.failed] == ["broken.jpg", "missing.jpg"]
    assert np.allclose(encoded.vectors, encode_photos(model.encoder, photos, 1).vectors, atol=1e-6)


def test_batches_run_side_by_side_come_back_in_order(tmp_path):
    """Either of two batches waits for the other, so that they end only if both are under way."""
    both = threading.Barrier(2, timeout=30)

    def mean_colour(pixels, views):
        both.wait()
        time.sleep(0.05 if pixels.mean() < 100 else 0)  # the first of them is the slow one
        return np.repeat(pixels.mean(axis=(2, 3), dtype=np.float32)[:, None], views, axis=1)

    paths = [tmp_path / f"{value}.png" for value in range(0, 240, 20)]
    for path in paths:
        Image.new("RGB", (40, 40), (int(path.stem), 255, 0)).save(path)
    encoded = encode_photos(Encoder([mean_colour], (32, 32), 1, at_once=2), paths, 2, batch_size=6)
    assert [photo.path for photo in encoded.photos] == paths
    reds = np.arange(0, 240, 20)
    np.testing.assert_allclose(encoded.vectors[:, 0], reds / np.hypot(reds, 255), atol=1e-6)


# --- candidates -------------------------------------------------------------------------------------------


@pytest.mark.numeric
def test_candidates_and_probabilities_are_those_of_a_plain_recomputation(project):
    texture(50, (96, 64)).save("q.jpg", quality=95)
    model = open_model(None, None)
    [answer] = identify(model, [Path("q.jpg")], 3).answers
    query = encode_photos(model.encoder, [Path("q.jpg")], 1).vectors[0].astype(float)
    gallery = load_gallery(GALLERY)
    vectors = gallery.vectors.astype(float)
    ids = [photo.id for photo in gallery.photos]
    scores = {}
    for name in sorted(set(ids)):
        own = vectors[[place for place, label in enumerate(ids) if label == name]]
        centre = own.sum(axis=0) / np.linalg.norm(own.sum(axis=0))
        scores[name] = (max(own @ query), centre @ query)
    fitted = decision()["scorers"]["gallery"]
    mixed = {name: 0.75 * nearest + 0.25 * centre for name, (nearest, centre) in scores.items()}
    odds = {name: np.exp(fitted["inverse_temperature"] * score) for name, score in mixed.items()}
    # All five individuals are candidates, so there is no other one to be likely.
    total = sum(odds.values()) + np.exp(fitted["new"])
    best = sorted(mixed, key=lambda name: -mixed[name])[:3]
    assert [one.id for one in answer.match.candidates] == best
    for one in answer.match.candidates:
        assert one.similarity == pytest.approx(scores[one.id][0], abs=1e-5)
        assert one.probability == pytest.approx(odds[one.id] / total, rel=1e-3)
        assert PHOTO_OF[one.photo] == one.id
        assert one.photos == IDS.count(one.id)
    assert answer.match.new_probability == pytest.approx(np.exp(fitted["new"]) / total, rel=1e-3)


def test_without_a_decision_candidates_are_ranked_and_have_no_probability(project):
    DECISION.unlink()
    answers = identify(open_model(None, None), [RAW / "train" / NAMES[4]], 2)
    [answer] = answers.answers
    assert answer.match.candidates[0].id == PHOTO_OF[NAMES[4]]
    assert answer.match.candidates[0].probability is None
    assert "decision.json" in answers.uncalibrated
    assert "No probabilities" in as_table(answers)
    assert json.loads(as_json(answers))["photos"][0]["new_probability"] is None


def test_a_copy_of_a_photo_of_the_gallery_is_named_and_another_photo_is_not(project):
    Image.open(RAW / "train" / NAMES[0]).resize((80, 54)).save("copy.jpg", quality=60)
    texture(77, (96, 64)).save("other.jpg")
    copied, other = identify(open_model(None, None), [Path("copy.jpg"), Path("other.jpg")], 1).answers
    assert [same.photo.image for same in copied.duplicates] == [NAMES[0]]
    assert other.duplicates == []


def test_whom_a_near_duplicate_shows_stands_first_in_every_format(project, capsys):
    """A small, coarse copy of the only photo of w_e; and the very same file."""
    Image.open(RAW / "train" / NAMES[11]).resize((60, 40)).save("copy.jpg", quality=30)
    shutil.copy(RAW / "train" / NAMES[11], "same.jpg")
    chance = calibration_of().named_duplicates.probability
    found = json.loads(run(capsys, "identify", "copy.jpg", "same.jpg", "--format", "json"))
    for photo in found["photos"]:
        assert photo["near_duplicates"][0]["id"] == "w_e"
        first, *others = photo["candidates"]
        assert (first["id"], first["near_duplicate"]) == ("w_e", True)
        assert first["probability"] >= chance
        assert photo["new_probability"] <= 1 - chance
        assert not any(one["near_duplicate"] for one in others)
    DECISION.unlink()
    rows = list(csv.DictReader(io.StringIO(run(capsys, "identify", "copy.jpg", "--format", "csv"))))
    assert [(row["id"], row["near_duplicate"]) for row in rows[:1]] == [("w_e", "True")]
    assert "nearly the same picture first" in run(capsys, "identify", "copy.jpg")


def test_a_probability_beyond_what_was_calibrated_says_so_in_every_format(project, capsys):
    content = read_json(DECISION)
    alone = {"inverse_temperature": 20.0, "other": 4.0, "new": 16.0}
    content["scorers"]["gallery"]["sizes"] = {"individuals": 2, "photos": 1} | alone
    write_json(DECISION, content)
    photo = RAW / "train" / NAMES[0]
    table = run(capsys, "identify", photo, "--html", "page.html")
    reason = "a gallery of 5 individuals is beyond the 2 that were calibrated with"
    assert table.count(reason) == Path("page.html").read_text().count(reason) == 1
    assert len([line for line in table.splitlines() if "% *" in line.replace("  *", " *")]) == 6
    [answer] = json.loads(run(capsys, "identify", photo, "--format", "json"))["photos"]
    assert answer["beyond_calibration"] == reason
    assert {one["beyond_calibration"] for one in answer["candidates"]} == {reason}
    rows = list(csv.DictReader(io.StringIO(run(capsys, "identify", photo, "--format", "csv"))))
    assert {row["beyond_calibration"] for row in rows} == {reason}
    content["scorers"]["gallery"]["sizes"]["individuals"] = 5
    content["scorers"]["gallery"]["sizes"]["photos"] = 1
    write_json(DECISION, content)
    [answer] = json.loads(run(capsys, "identify", photo, "--format", "json"))["photos"]
    marked = {one["id"] for one in answer["candidates"] if one["beyond_calibration"]}
    assert (answer["beyond_calibration"], marked) == (None, {"w_a", "w_b"})  # four photos each


def test_flags_name_what_is_odd(project):
    Image.new("L", (20, 24), 90).save("flat.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    texture(3, (96, 64)).save("turned.jpg", exif=exif)
    flat, turned = identify(open_model(None, None), [Path("flat.png"), Path("turned.jpg")], 1).answers
    assert {flag.rule for flag in flat.flags} == {"photo_size", "photo_contrast", "photo_grey"}
    assert {flag.rule for flag in turned.flags} == {"photo_orientation"}


def test_a_gallery_of_other_weights_is_refused_with_the_reason(project, tmp_path):
    make = tmp_path / "other"
    make.mkdir()
    make_project(make, ("m1",))
    with pytest.raises(FlukeprintError, match="member m2 is only in"):
        identify(open_model(None, make / GALLERY), [RAW / "train" / NAMES[0]], 1)


# --- formats ----------------------------------------------------------------------------------------------


def test_the_table_names_photos_candidates_and_who_decides(project, capsys):
    text = run(capsys, "identify", RAW / "train" / NAMES[0], "--top", 2)
    assert "1. w_a" in text
    assert "none of the gallery" in text
    assert "People decide" in text
    assert f"nearly the same picture as {NAMES[0]} of w_a" in text
    assert "  3. " not in text


def test_json_and_csv_say_the_same(project, capsys):
    texture(50, (96, 64)).save("q.jpg")
    content = json.loads(run(capsys, "identify", "q.jpg", "--format", "json"))
    rows = list(csv.DictReader(io.StringIO(run(capsys, "identify", "q.jpg", "--format", "csv"))))
    assert set(content) == {
        "note", "gallery", "uncalibrated", "new_share", "calibration_note", "local_matching", "collapsed", "photos",
        "failed",
    }  # fmt: skip
    assert content["collapsed"] is None
    assert content["gallery"] == {"photos": 12, "individuals": 5}
    [photo] = content["photos"]
    assert list(rows[0]) == list(COLUMNS)
    assert [row["id"] for row in rows] == [one["id"] for one in photo["candidates"]]
    assert [float(row["probability"]) for row in rows] == [one["probability"] for one in photo["candidates"]]
    assert all(float(row["new_probability"]) == photo["new_probability"] for row in rows)
    assert sum(one["probability"] for one in photo["candidates"]) + photo["new_probability"] <= 1 + 1e-5


def test_a_decision_of_an_earlier_run_is_said_beside_every_answer(project, capsys):
    photo, other = (RAW / "train" / name for name in NAMES[:2])
    assert "earlier run" not in run(capsys, "identify", photo)
    calibration = read_calibration(DECISION)
    write_calibration(DECISION, calibration.model_copy(update={"fitted_to": calibration.provenance}))
    assert EARLIER in run(capsys, "identify", photo)
    assert json.loads(run(capsys, "identify", photo, "--format", "json"))["calibration_note"] == EARLIER
    rows = csv.DictReader(io.StringIO(run(capsys, "identify", photo, "--format", "csv")))
    assert {row["calibration_note"] for row in rows} == {EARLIER}
    assert f"probability and thresholds are {EARLIER}" in run(capsys, "verify", photo, other)


def test_a_broken_photo_is_listed_the_others_are_answered_and_the_exit_code_is_1(project, capsys, caplog):
    folder = Path("new")
    folder.mkdir()
    shutil.copy(RAW / "train" / NAMES[0], folder / "a.jpg")
    (folder / "b.jpg").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    (folder / "notes.txt").write_text("x")
    with pytest.raises(SystemExit) as stopped:
        main(["identify", "new", "--format", "json", "--html", "page.html"])
    content = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 1
    assert [photo["photo"] for photo in content["photos"]] == ["new/a.jpg"]
    assert [photo["photo"] for photo in content["failed"]] == ["new/b.jpg"]
    assert "1 other file(s)" in caplog.text
    assert "b.jpg" in Path("page.html").read_text()
    assert not Path("pwned").exists()


def test_names_from_others_are_harmless_in_every_format(project):
    names = ["=cmd()|x.jpg", "<script>alert(1)</script>.jpg".replace("/", "_"), '"><img src=x>.jpg']
    for seed, name in enumerate(names):
        texture(60 + seed, (96, 64)).save(name)
    bad = Path("\x1b[2Jbad.jpg")
    bad.write_bytes(b"")
    answers = identify(open_model(None, None), [*map(Path, names), bad], 1)
    rows = list(csv.reader(io.StringIO(as_csv(answers))))
    assert rows[1][0] == "'=cmd()|x.jpg"
    assert all(not cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    write_page(Path("page.html"), answers)
    page = Path("page.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + as_table(answers) + as_csv(answers) + as_json(answers)


def test_the_page_loads_nothing_and_holds_the_pictures(project, capsys):
    run(capsys, "identify", RAW / "train" / NAMES[0], "--html", "page.html", "--top", 3)
    page = Path("page.html").read_text()
    shown = sum(min(IDS.count(name), 3) for name in re.findall(r"<strong><bdi>(w_.)</bdi></strong>", page))
    assert page.count("data:image/jpeg;base64,") == 1 + shown > 1 + 3
    assert "People decide" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["identify", "nowhere"], "no photo or folder 'nowhere'"),
        (["identify", "empty"], "holds no photo"),
        (["identify", "q.jpg", "--html", "empty"], "--html empty"),
        (["identify", "q.jpg", "--html", "q.jpg"], "is one of the photos"),
        (["identify", "q.jpg", "--bundle", "empty"], "no bundle in empty"),
        (["identify", "q.jpg", "--gallery", "empty"], "no gallery in empty"),
        (["verify", "q.jpg", "broken.jpg"], "broken.jpg: the file is empty"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(project, capsys, arguments, message):
    Path("empty").mkdir()
    Path("broken.jpg").write_bytes(b"")
    texture(1).save("q.jpg")
    with pytest.raises(SystemExit, match=message):
        main(arguments)
    assert Path("q.jpg").stat().st_size > 0


def test_outside_a_project_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlukeprintError, match="--bundle"):
        open_model(None, None)


# --- verification -----------------------------------------------------------------------------------------


@pytest.mark.numeric
def test_verification_compares_similarity_with_the_thresholds(project, capsys):
    first, second = (RAW / "train" / name for name in NAMES[:2])
    content = json.loads(run(capsys, "verify", first, second, "--json"))
    gallery = load_gallery(GALLERY)
    rows = [next(n for n, photo in enumerate(gallery.photos) if photo.image == name) for name in NAMES[:2]]
    similarity = float(gallery.vectors[rows[0]].astype(float) @ gallery.vectors[rows[1]])
    assert content["similarity"] == pytest.approx(similarity, abs=1e-5)
    assert content["probability"] == pytest.approx(1 / (1 + np.exp(-(10 * similarity - 5))), abs=1e-4)
    assert {name: verdict["same"] for name, verdict in content["verdicts"].items()} == {
        name: similarity >= value for name, value in decision()["verification"]["thresholds"].items()
    }
    text = run(capsys, "verify", first, second)
    assert "1 in 1,000" in text
    assert "People decide" in text


def test_a_photo_with_itself_is_the_same_picture(project, capsys):
    photo = RAW / "train" / NAMES[0]
    assert "nearly the same picture" in run(capsys, "verify", photo, photo)


def test_verification_without_thresholds_gives_the_similarity_and_says_why(project, capsys):
    none = {"queries": 0, "individuals": 0, "same_pairs": 0, "different_pairs": 0, "without": "there are no pairs"}
    write_json(DECISION, read_json(DECISION) | {"verification": none})
    content = json.loads(run(capsys, "verify", *(RAW / "train" / name for name in NAMES[:2]), "--json"))
    assert content["probability"] is None
    assert content["verdicts"] == {}
    assert "there are no pairs" in content["uncalibrated"]


# --- photos and files of all kinds ---------------------------------------------------------------------------


def test_photos_of_one_name_in_two_folders_are_kept_apart_everywhere(project, capsys):
    names = ["new/a.jpg", "new/day 1/a.jpg", "new/day 2/a.jpg"]
    for seed, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        texture(60 + seed, (96, 64)).save(name)
    Path("new/day 2/again").symlink_to("..")
    assert [line for line in run(capsys, "identify", "new").splitlines() if line.startswith("new")] == names
    answered = json.loads(run(capsys, "identify", "new", "--format", "json", "--html", "page.html"))["photos"]
    assert [photo["photo"] for photo in answered] == names
    rows = csv.DictReader(io.StringIO(run(capsys, "identify", "new", "--format", "csv", "--top", 1)))
    assert [row["photo"] for row in rows] == names
    assert all(f"<h2>{name}</h2>" in Path("page.html").read_text() for name in names)


def test_a_damaged_album_is_refused(project):
    write_album(Path("models/gallery.album"), [entry_of(RAW / "train", inspect_photo(RAW / "train", NAMES[0]))])
    run_on_album = ["identify", str(RAW / "train" / NAMES[0])]
    main(run_on_album)
    album = Path("models/gallery.album")
    content = bytearray(album.read_bytes())
    content[-20] ^= 1
    album.write_bytes(bytes(content))
    with pytest.raises(SystemExit, match=r"gallery.album was changed"):
        main(run_on_album)


def test_a_damaged_table_of_photos_is_refused(project):
    texture(90, (96, 64)).save("n.jpg")
    VALIDATED.mkdir(exist_ok=True)
    (VALIDATED / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SystemExit, match=r"train.parquet is not a readable Parquet file"):
        main(["identify", "n.jpg"])


def test_a_link_to_itself_is_one_photo_that_cannot_be_read(project, capsys):
    Path("new").mkdir()
    texture(90, (96, 64)).save("new/n.jpg")
    Path("new/loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(SystemExit) as stop:
        main(["identify", "new", "--format", "json", "--html", "page.html"])
    assert stop.value.code == 1
    assert len(json.loads(capsys.readouterr().out)["photos"]) == 1
    assert Path("page.html").exists()


def test_an_empty_gallery_has_no_candidates(project, capsys):
    gallery = load_gallery(GALLERY)
    save_gallery(build_gallery(gallery.vectors[:0], [], [], gallery.provenance), GALLERY)
    photo = json.loads(run(capsys, "identify", RAW / "train" / NAMES[0], "--format", "json"))["photos"][0]
    assert photo["candidates"] == []
    assert photo["new_probability"] == 1
    rows = list(csv.DictReader(io.StringIO(run(capsys, "identify", RAW / "train" / NAMES[0], "--format", "csv"))))
    assert [(row["photo"], row["id"], row["new_probability"]) for row in rows] == [
        (str(RAW / "train" / NAMES[0]), "", "1.0")
    ]


def test_a_decision_of_other_weights_gives_no_probabilities(project, capsys):
    content = read_json(DECISION)
    content["provenance"]["members"][0]["sha256"] = "0" * 64
    write_json(DECISION, content)
    photo = RAW / "train" / NAMES[0]
    answers = json.loads(run(capsys, "identify", photo, "--format", "json"))
    assert "was fitted to other weights" in answers["uncalibrated"]
    assert answers["photos"][0]["candidates"][0]["probability"] is None
    assert "was fitted to other weights" in json.loads(run(capsys, "verify", photo, photo, "--json"))["uncalibrated"]


def test_more_candidates_do_not_change_probabilities(project, capsys):
    photo = RAW / "train" / NAMES[0]
    few, many = (
        json.loads(run(capsys, "identify", photo, "--format", "json", "--top", top))["photos"][0] for top in (2, 20)
    )
    assert many["candidates"][:2] == few["candidates"]
    assert sum(one["probability"] for one in many["candidates"]) + many["new_probability"] == pytest.approx(1, abs=1e-5)
    with pytest.raises(SystemExit):
        main(["identify", str(photo), "--top", "21"])
