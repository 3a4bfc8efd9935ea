"""`identify --local` and `fit-local` in a tiny project: keypoints decide between candidates that look alike."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from calibrations import calibration_of
from identify_project import IDS, NAMES, decision, make_project, pipeline_embeddings
from keypoint_pictures import local_calibration, speckled
from PIL import Image

from flukeprint.bundle.album import Albums, FolderAlbum
from flukeprint.bundle.bundle_manifest import write_manifest
from flukeprint.bundle.card import model_card
from flukeprint.bundle.encoder import encode_photos
from flukeprint.bundle.export import export_bundle
from flukeprint.bundle.opening import open_model
from flukeprint.cli.main import main
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_frame, write_npy
from flukeprint.core.paths import DECISION, EMBEDDINGS, FINETUNED, GALLERY, KEPT, PREDICTIONS, RAW, SELECTED, VALIDATED
from flukeprint.data.inspection import inspect_photo
from flukeprint.identify.answers import identify
from flukeprint.identify.identification_page import write_page
from flukeprint.retrieval.gallery import Photo, build_gallery
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery
from flukeprint.retrieval.search import Searcher
from flukeprint.scoring.calibration import EARLIER, read_calibration, write_calibration
from flukeprint.scoring.candidates import candidate_rows, gallery_candidates, write_candidates
from flukeprint.scoring.local_calibration import LocalCalibration, shared_out

pytest.importorskip("cv2", reason="the extra local is not installed")

MODELS = DECISION.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A project whose photos have keypoints; individuals' photos show different spots."""
    folder = tmp_path_factory.mktemp("project")
    make_project(folder, members=("m1",), flip_test=False)
    for number, name in enumerate(NAMES):
        speckled(number).save(folder / RAW / "train" / name, quality=95)
    records = [inspect_photo(folder / RAW / "train", name) for name in NAMES]
    digests = [record.sha256 for record in records]
    hashes = [np.uint64(record.phash) for record in records]
    write_frame(
        folder / VALIDATED / "train.parquet", pd.DataFrame({"Image": NAMES, "sha256": digests, "phash": hashes})
    )
    old = load_gallery(folder / GALLERY)
    # Their vectors stay those of other pictures: to the network the new ones say nothing.
    images, ids = [one.image for one in old.photos], [one.id for one in old.photos]
    known = [digests[NAMES.index(image)] for image in images]
    save_gallery(build_gallery(old.vectors, images, ids, old.provenance, known), folder / GALLERY)
    local_calibration(provenance=old.provenance).write(folder / MODELS)
    with chdir(folder):
        export_bundle(Path("bundle"))
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch) -> Path:
    """A project of its own, which is the current folder, and a photo q.jpg of the whale of t04.jpg, seen aslant."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    speckled(4).rotate(12).crop((30, 10, 300, 150)).save("q.jpg", quality=90)
    return Path()


def run(capsys, *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def candidates_of(answers):
    return answers.answers[0].match.candidates


@pytest.mark.numeric
def test_probabilities_are_shared_out_by_the_keypoints_that_match(project):
    model = open_model(None, None)
    before = candidates_of(identify(model, [Path("q.jpg")], 5))
    after = candidates_of(identify(model, [Path("q.jpg")], 5, local=True))
    assert after[0].id == "w_b"
    assert before[0].id != "w_b"
    assert after[0].local.image == "t04.jpg"
    assert after[0].keypoints >= 20
    assert all(one.keypoints <= 8 for one in after[1:])
    matched = {one.id: one.keypoints for one in after}
    expected = shared_out(
        LocalCalibration.read(MODELS),
        np.array([one.probability for one in before]),
        np.array([matched[one.id] for one in before]),
    )
    assert {one.id: one.probability for one in after} == pytest.approx(
        dict(zip([one.id for one in before], expected, strict=True))
    )
    assert [one.probability for one in after] == sorted((one.probability for one in after), reverse=True)


def test_without_the_option_nothing_changes(project, capsys):
    with_file = run(capsys, "identify", "q.jpg", "--format", "json")
    (MODELS / "local.json").unlink()
    assert run(capsys, "identify", "q.jpg", "--format", "json") == with_file
    assert json.loads(with_file)["local_matching"] is None
    assert json.loads(with_file)["photos"][0]["candidates"][0]["matched_keypoints"] is None


def test_only_the_most_similar_photos_are_looked_at_and_candidates_beyond_the_first_stay(project):
    provenance = load_gallery(GALLERY).provenance
    local_calibration(provenance=provenance, photos=1, first=2).write(MODELS)
    model = open_model(None, None)
    before = candidates_of(identify(model, [Path("q.jpg")], 5))
    after = candidates_of(identify(model, [Path("q.jpg")], 5, local=True))
    looked_at = {one.id: one for one in after if one.local}
    assert set(looked_at) == {one.id for one in before[:2]}
    assert {one.id: one.local.image for one in looked_at.values()} == {one.id: one.photo for one in before[:2]}
    others = {one.id: one.probability for one in after if not one.local}
    assert others == {one.id: one.probability for one in before[2:]}


def test_fewer_candidates_are_the_best_of_those_that_were_looked_at(project):
    model = open_model(None, None)
    five = candidates_of(identify(model, [Path("q.jpg")], 5, local=True))
    assert candidates_of(identify(model, [Path("q.jpg")], 1, local=True)) == five[:1]


def test_near_duplicates_stand_first_and_are_not_asked_again(project):
    photo = RAW / "train" / NAMES[8]
    answers = identify(open_model(None, None), [photo], 5, local=True)
    assert candidates_of(answers) == candidates_of(identify(open_model(None, None), [photo], 5))


def test_every_format_says_what_matched(project, capsys):
    table = run(capsys, "identify", "q.jpg", "--local")
    assert "keypoints" in table
    assert "The first 5 candidates were looked at keypoint by keypoint" in table
    found = json.loads(run(capsys, "identify", "q.jpg", "--local", "--format", "json"))
    assert found["local_matching"] == {"matcher": "sift", "first": 5, "calibration_note": None}
    numbers = [one["matched_keypoints"] for one in found["photos"][0]["candidates"]]
    assert numbers[0] >= 20
    rows = csv.DictReader(io.StringIO(run(capsys, "identify", "q.jpg", "--local", "--format", "csv")))
    assert [int(row["matched_keypoints"]) for row in rows] == numbers


def test_the_page_draws_a_line_for_each_match_and_says_how_many(project):
    answers = identify(open_model(None, None), [Path("q.jpg")], 2, local=True)
    write_page(Path("page.html"), answers)
    page = Path("page.html").read_text()
    best, second = candidates_of(answers)
    assert page.count("<line ") == best.keypoints + second.keypoints
    label = f"{best.keypoints} matched keypoints in t04.jpg of w_b"
    assert f"<summary>{label}</summary>" in page
    assert f'aria-label="{label}, drawn as lines from the query above to it below"' in page
    assert page.count('<image href="data:image/jpeg;base64,') == 2 * page.count("<svg")
    assert "http" not in page.replace("http-equiv", "")
    # Both ends of the first line, on pictures of 480 units: the query is 270 x 140 px, the candidate 320 x 160.
    x1, y1, x2, y2 = best.local.lines[0]
    upper = 480 * 140 / 270
    expected = (480 * x1, upper * y1, 480 * x2, upper + 12 + 240 * y2)
    assert '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*expected) in page


def test_names_from_others_are_harmless_on_the_page(project):
    answers = identify(open_model(None, None), [Path("q.jpg")], 2, local=True)
    best = candidates_of(answers)[0]
    object.__setattr__(best, "id", "<b>x</b>")
    write_page(Path("page.html"), answers)
    assert "<b>x</b>" not in Path("page.html").read_text()


def test_a_bundle_answers_like_its_project(project, capsys):
    own = run(capsys, "identify", "q.jpg", "--local", "--format", "json")
    found = run(capsys, "identify", "q.jpg", "--local", "--format", "json", "--bundle", "bundle")
    one, other = (json.loads(text)["photos"][0]["candidates"] for text in (own, found))
    assert [row["matched_keypoints"] for row in one] == [row["matched_keypoints"] for row in other]


def refused(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return f"{end.value}"


def test_what_cannot_be_re_ranked_is_refused_before_photos_are_read(project, capsys, monkeypatch):
    monkeypatch.setattr("flukeprint.bundle.encoder.encode_photos", None)
    local_calibration().write(MODELS)
    assert "fitted to the scores of other weights" in refused(capsys, "identify", "q.jpg", "--local")
    assert "fitted to the scores of other weights" in refused(capsys, "export", "again")
    (MODELS / "local.json").unlink()
    assert "Run `flukeprint fit-local`" in refused(capsys, "identify", "q.jpg", "--local")
    DECISION.unlink()
    assert "without probabilities nothing can be re-ranked" in refused(capsys, "identify", "q.jpg", "--local")


def test_a_gallery_without_pictures_is_refused(project):
    with pytest.raises(FlukeprintError, match="no pictures to match keypoints in"):
        identify(replace(open_model(None, None), own_album=Albums()), [Path("q.jpg")], 5, local=True)


def test_pictures_larger_than_a_bundle_has_are_refused(project, capsys):
    local_calibration(provenance=load_gallery(GALLERY).provenance, side=640).write(MODELS)
    assert "w_b" in run(capsys, "identify", "q.jpg", "--local")
    shutil.copyfile(MODELS / "local.json", "bundle/local.json")
    Path("bundle/manifest.json").unlink()
    write_manifest(Path("bundle"))
    found = refused(capsys, "identify", "q.jpg", "--local", "--bundle", "bundle")
    assert "wanted are some of 640 x 320" in found


def test_without_the_extra_the_error_names_it(project, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = refused(capsys, "identify", "q.jpg", "--local")
    assert "the package cv2 is not installed" in found
    assert "flukeprint[local]" in found
    assert "cv2" in refused(capsys, "fit-local")


# --- fit-local ----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(project) -> Path:
    """Calibration queries in the project: five photos seen aslant again, and two whales that it does not know."""
    seeds = {f"c{number}.jpg": number for number in (1, 4, 6, 9, 10)} | {"c50.jpg": 50, "c51.jpg": 51}
    ids = [IDS[number] if number < len(IDS) else "new_whale" for number in seeds.values()]
    for name, seed in seeds.items():
        speckled(seed).rotate(9).crop((20, 10, 310, 150)).save(RAW / "train" / name, quality=90)
    records = [inspect_photo(RAW / "train", name) for name in [*NAMES, *seeds]]
    hashes = {"sha256": [one.sha256 for one in records], "phash": [np.uint64(one.phash) for one in records]}
    table = pd.DataFrame({"Image": [*NAMES, *seeds], "Id": [*IDS, *ids]})
    table["split"] = ["train"] * len(NAMES) + ["calibration"] * len(seeds)
    table["pixel"] = range(len(table))
    write_frame(SELECTED / "full.parquet", table)
    write_frame(VALIDATED / "train.parquet", pd.DataFrame({"Image": table["Image"], **hashes}))
    gallery, model = load_gallery(GALLERY), open_model(None, None)
    vectors = encode_photos(model.encoder, [RAW / "train" / name for name in seeds], 1).vectors
    members = [one.name for one in gallery.provenance.members]
    weights, views = [FINETUNED / f"{member}.safetensors" for member in members], gallery.provenance.views
    for member, made in zip(members, pipeline_embeddings(Path(), weights, views, table["Image"].tolist()), strict=True):
        write_npy(EMBEDDINGS / member / "train.npy", made)
    scored = gallery_candidates(Searcher.of(gallery).search(vectors), gallery.individuals)
    photos = table[table["split"] == "calibration"][["Image", "Id", "split"]].assign(truth=ids)
    write_candidates(PREDICTIONS / "query.parquet", candidate_rows(photos, "gallery", scored))
    return project


def test_fitting_looks_at_the_calibration_queries_as_identify_looks_at_photos(asked, capsys):
    (MODELS / "local.json").unlink()
    said = run(capsys, "fit-local", "--first", 5, "--photos", 4)
    fitted = LocalCalibration.read(MODELS)
    assert (fitted.queries, fitted.right, fitted.candidates) == (7, 5, 35)
    assert fitted.slope > 1
    assert fitted.log_loss < 0.1 < fitted.log_loss_before
    assert "7 queries, 5 with their whale among 5 candidates" in said
    [answer] = identify(open_model(None, None), [Path("q.jpg")], 5, local=True).answers
    assert answer.match.candidates[0].id == "w_b"
    assert answer.match.candidates[0].probability > 0.9 * sum(one.probability for one in answer.match.candidates)
    first = (MODELS / "local.json").read_bytes()
    run(capsys, "fit-local", "--first", 5, "--photos", 4)
    assert (MODELS / "local.json").read_bytes() == first


def test_a_project_without_calibration_queries_is_refused(asked, capsys):
    rows = pd.read_parquet(PREDICTIONS / "query.parquet").assign(split="query")
    write_candidates(PREDICTIONS / "query.parquet", rows)
    assert "no photo of the split calibration" in refused(capsys, "fit-local")
    calibration = read_calibration(DECISION)
    write_calibration(DECISION, calibration.model_copy(update={"fitted_to": calibration.provenance}))
    assert "copy the local.json of the run that its decision is of to data/kept/local.json" in refused(
        capsys, "fit-local"
    )
    write_calibration(DECISION, calibration_of(**decision()))
    assert "there are no probabilities to fit to" in refused(capsys, "fit-local")


def test_a_run_with_a_kept_decision_takes_the_kept_fit_over_and_says_so_beside_every_answer(project, capsys):
    """As after `cp models/local.json data/kept/` and a second training, which leaves nothing to fit to."""
    calibration, own = read_calibration(DECISION), load_gallery(GALLERY).provenance
    earlier = own.model_copy(update={"members": [own.members[0].model_copy(update={"sha256": "e" * 64})]})
    write_calibration(DECISION, calibration.model_copy(update={"fitted_to": earlier}))
    asked = ("fit-local", "--first", 5, "--photos", 2)
    local_calibration(provenance=own).write(KEPT.parent)
    assert "data/kept/local.json was fitted to the scores of other weights" in refused(capsys, *asked)
    local_calibration(provenance=earlier, slope=2.5).write(KEPT.parent)
    assert "--first was 5, here 10" in refused(capsys, "fit-local", "--photos", 2)
    assert f"models/local.json, {EARLIER}: 9 queries" in run(capsys, *asked)
    fitted = LocalCalibration.read(MODELS)
    assert (fitted.slope, fitted.provenance, fitted.fitted_to) == (2.5, own, earlier)
    found = json.loads(run(capsys, "identify", "q.jpg", "--local", "--format", "json"))
    assert found["local_matching"]["calibration_note"] == EARLIER
    assert f"9 calibration queries, and is {EARLIER}." in model_card(own, load_gallery(GALLERY), 12, fitted)
    # Calibrated anew on the same weights, answers are still shared out by a fit of the earlier run.
    write_calibration(DECISION, calibration)
    rows = csv.DictReader(io.StringIO(run(capsys, "identify", "q.jpg", "--local", "--format", "csv")))
    assert {row["calibration_note"] for row in rows} == {EARLIER}


# --- pictures -----------------------------------------------------------------------------------------------------


def test_an_album_of_photos_draws_them_as_large_as_is_wanted_and_knows_them_by_their_bytes(project):
    digest = inspect_photo(RAW / "train", NAMES[0]).sha256
    album = FolderAlbum.of(RAW / "train", VALIDATED / "train.parquet")
    photo = Photo("w_a", NAMES[0], digest)
    drawn = [album.picture(photo, (side, side)) for side in (64, 999)]
    assert [Image.open(io.BytesIO(jpeg)).size for jpeg in drawn] == [(64, 32), (320, 160)]
    assert album.picture(Photo("w_a", NAMES[0], "0" * 64), (64, 64)) is None
