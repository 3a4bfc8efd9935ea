"""A season: known whales are named, unknown ones found among themselves, and the queue is in the order of its worth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalogue_model import calibration, fake_model, import_folder, save_whales
from gallery_folder import PROVENANCE
from keypoint_pictures import local_calibration, speckled
from PIL import Image
from quality_folder import texture
from sqlalchemy import select, update

from flukeprint.catalogue.catalogues import create_catalogue
from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.decision_queue import queue, worth
from flukeprint.catalogue.entities import AnswerRow, VectorRow
from flukeprint.catalogue.evidence import together
from flukeprint.catalogue.keypoint_matches import read_matches
from flukeprint.catalogue.restriction import restriction
from flukeprint.catalogue.season import Season, ask, clusters
from flukeprint.catalogue.season_words import season_json, season_text
from flukeprint.catalogue.sightings import Sighting, decisions_of, holdings_of
from flukeprint.catalogue.vector_cache import embed_missing, known_model
from flukeprint.core.errors import FlukeprintError
from flukeprint.identify.matching import Match, RankedCandidate
from flukeprint.identify.reranking import LocalMatching
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.scoring.calibration import EARLIER

MODEL = fake_model(calibration())
EVERYTHING = restriction(())
KNOWN = {f"w_{seed}/{seed}_{n}.jpg": (seed, n) for seed in range(6) for n in range(3)}
# Two encounters of whale 2, two of whale 50 that nobody knows, one of whale 60.
SEASON = {
    "e_known/a1.jpg": (2, 10), "e_known/a2.jpg": (2, 11), "e_again/b1.jpg": (2, 12), "e_new/c1.jpg": (50, 1),
    "e_new/c2.jpg": (50, 2), "e_new_again/d1.jpg": (50, 3), "e_other/f1.jpg": (60, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    save_whales(folder / "known", KNOWN)
    save_whales(folder / "season", SEASON)
    return folder


@pytest.fixture
def filled(catalogue, photos):
    import_folder(catalogue, photos / "known")
    import_folder(catalogue, photos / "season", "encounters")
    return catalogue


def answered(catalogue, model=MODEL, only=EVERYTHING, against=EVERYTHING) -> Season:
    return ask(catalogue, model, known_model(catalogue, model), only, against)


def by_encounter(season: Season) -> dict[str, dict]:
    return {
        "+".join(sorted(one.name for one in asked.encounters)): {
            "first": asked.answer.candidates[0].id if asked.answer.candidates else None,
            "probability": asked.answer.candidates[0].probability if asked.answer.candidates else None,
            "new": asked.answer.new_probability,
            "worth": worth(asked),
        }
        for asked in season.asked
    }


def number_of(catalogue, name: str) -> int:
    [found] = [one.id for one in holdings_of(catalogue).encounters if one.name == name]
    return found


@pytest.mark.numeric
def test_known_whales_are_named_and_new_ones_found_among_themselves(filled):
    found = by_encounter(answered(filled))
    assert set(found) == {"e_again+e_known", "e_new+e_new_again", "e_other"}
    assert (found["e_again+e_known"]["first"], found["e_again+e_known"]["worth"]) == ("w_2", "sure")
    assert found["e_new+e_new_again"]["worth"] == found["e_other"]["worth"] == "new"


@pytest.mark.numeric
def test_after_the_decision_the_new_whale_is_known_and_what_was_shown_is_in_the_log(filled):
    answered(filled)
    decide(filled, [Wish("new", encounter=number_of(filled, "e_new"), individual="w_50")], "ann")
    logged = decisions_of(filled)[-1]
    assert logged.shown["encounters"] == [number_of(filled, "e_new"), number_of(filled, "e_new_again")]
    assert logged.shown["new_probability"] > 0.5
    with filled.database.reading() as connection:
        assert connection.execute(select(AnswerRow.encounter_id)).scalars().all()
    assert logged.model is not None
    assert by_encounter(answered(filled))["e_new_again"]["first"] == "w_50"


@pytest.mark.numeric
def test_whom_people_rejected_is_not_named_again(filled):
    for name in ("e_known", "e_again"):
        decide(filled, [Wish("reject", encounter=number_of(filled, name), individual="w_2")], "ann")
    season = answered(filled)
    named = {one.id for asked in season.asked for one in asked.answer.candidates if "e_known" in _names(asked)}
    assert named == {f"w_{number}" for number in (0, 1, 3, 4, 5)}
    assert by_encounter(season)["e_again+e_known"]["worth"] == "new"


def _names(asked) -> set[str]:
    return {one.name for one in asked.encounters}


@pytest.mark.numeric
def test_what_somebody_was_unsure_about_is_doubtful_and_comes_last(filled):
    decide(filled, [Wish("unsure", encounter=number_of(filled, "e_known"))], "ann")
    season = answered(filled)
    assert by_encounter(season)["e_again+e_known"]["worth"] == "doubtful"
    queued = queue(season.asked)
    assert [len(queued[name]) for name in ("sure", "new", "doubtful")] == [0, 2, 1]
    assert list(queued) == ["sure", "new", "doubtful"]
    chances = [asked.answer.new_probability for asked in queued["new"]]
    assert chances == sorted(chances, reverse=True)


@pytest.mark.numeric
def test_a_single_photo_that_shows_nobody_is_asked_for_by_itself(filled):
    encounter = number_of(filled, "e_new")
    [first, _] = [one.photo for one in holdings_of(filled).sightings if one.encounter == encounter]
    decide(filled, [Wish("new", encounter=encounter, individual="w_50")], "ann")
    decide(filled, [Wish("reject", photo=first, individual="w_50", seen=None)], "ann")
    subjects = [one for asked in answered(filled).asked for one in asked.subjects]
    assert f"p{first}" in subjects
    assert f"e{encounter}" not in subjects


def copied(one: Sighting, folder: Path) -> Path:
    """Return a folder with an encounter of one photo that is nearly the same picture as another."""
    (folder / "late" / "e_copy").mkdir(parents=True)
    with Image.open(one.file) as image:
        image.save(folder / "late" / "e_copy" / "copy.png")
    return folder / "late"


def test_nearly_the_same_pictures_are_said(filled, tmp_path):
    one = next(one for one in holdings_of(filled).sightings if one.individual == "w_3")
    import_folder(filled, copied(one, tmp_path), "encounters")
    season = answered(filled)
    [copies] = [asked.copies for asked in season.asked if "e_copy" in _names(asked)]
    assert [(copy.photo, copy.individual) for _, copy in copies] == [(one.photo, "w_3")]
    assert f"nearly the same picture as p{one.photo} of w_3" in season_text(season, 3, "whales")


@pytest.mark.parametrize("fitted", [None, calibration()])
def test_nearly_the_same_picture_counts_as_in_identify(catalogue, photos, tmp_path, fitted):
    import_folder(catalogue, photos / "known")
    by_id = {one.individual: one for one in holdings_of(catalogue).sightings}
    original, like = by_id["w_3"], by_id["w_1"]
    import_folder(catalogue, copied(original, tmp_path), "encounters")
    [copy] = [one.photo for one in holdings_of(catalogue).sightings if one.individual is None]
    misleading = select(VectorRow.vector).where(VectorRow.photo_id == like.photo).scalar_subquery()
    with catalogue.database.writing() as connection:
        connection.execute(update(VectorRow).where(VectorRow.photo_id == copy).values(vector=misleading))
    [asked] = answered(catalogue, fake_model(fitted)).asked
    assert asked.answer.candidates[0].id == "w_3"
    probability = None if fitted is None else pytest.approx(fitted.named_duplicates.probability)
    assert asked.answer.candidates[0].probability == probability


@pytest.mark.numeric
def test_a_probability_beyond_what_was_calibrated_is_marked(filled):
    season = answered(filled)
    first = season.asked[0].answer
    said = MODEL.calibration.of("gallery").beyond(season.individuals)
    assert said
    assert {first.beyond, first.candidates[0].beyond} == {said}
    content = json.loads(season_json(season))["queue"][0]
    assert content["beyond_calibration"] == content["candidates"][0]["beyond_calibration"] == said
    assert season_text(season, 3, "whales").count(said) == 1
    of_one = replace(first, beyond=None, candidates=[first.candidates[0]._replace(beyond="too many photos")])
    text = season_text(replace(season, asked=[replace(season.asked[0], answer=of_one)]), 3, "whales")
    assert text.count("* too many photos") == 1


@pytest.mark.numeric
def test_more_encounters_than_are_compared_are_answered_one_by_one(filled, monkeypatch):
    monkeypatch.setattr("flukeprint.catalogue.season._MOST_COMPARED", 4)
    season = answered(filled)
    assert len(season.asked) == 5
    assert "--only" in season.ungrouped


@pytest.mark.numeric
def test_without_a_calibration_candidates_are_ranked_and_it_is_said(filled):
    season = answered(filled, fake_model(None))
    assert season.uncalibrated
    assert season.ungrouped
    found = by_encounter(season)
    assert (found["e_known"]["first"], found["e_known"]["probability"], found["e_known"]["worth"]) == (
        "w_2", None, "doubtful",
    )  # fmt: skip
    text = season_text(season, 3, "whales")
    assert "No probabilities: this model was never calibrated" in text
    assert "among themselves" in text.partition("Not compared ")[2]
    assert "and among themselves" not in text
    assert "By similarity, the most similar first" in text
    assert "Doubtful" not in text
    assert "%" not in text
    encounter = number_of(filled, "e_known")
    there = "--catalogue whales\n"
    new = f"     flukeprint catalogue decide new e{encounter} NEW_ID {there}"
    assert f"decide confirm e{encounter} w_2 {there}{new}" in text


def test_an_empty_catalogue_knows_nobody(tmp_path, photos):
    catalogue = create_catalogue(str(tmp_path / "whales"))
    import_folder(catalogue, photos / "season", "encounters")
    season = answered(catalogue)
    assert (season.photos, season.individuals) == (0, 0)
    assert {one["new"] for one in by_encounter(season).values()} == {1.0}
    assert answered(create_catalogue(str(tmp_path / "none"))).asked == []


@pytest.mark.numeric
def test_json_holds_the_queue_in_order(filled):
    content = json.loads(season_json(answered(filled)))
    assert [one["worth"] for one in content["queue"]] == ["sure", "new", "new"]
    best = content["queue"][0]["candidates"][0]
    assert best["id"] == "w_2"
    assert 0.9 < best["probability"] <= 1
    assert content["gallery"] == {"photos": 18, "individuals": 6}


def test_photos_without_a_vector_are_said_and_embedded_later(filled):
    other = fake_model(calibration())
    number = known_model(filled, other) + 1
    with filled.database.writing() as connection:
        from flukeprint.catalogue.entities import ModelRow

        connection.execute(ModelRow.__table__.insert().values(id=number, fingerprint="f" * 64, provenance="{}"))
    assert len(ask(filled, other, number, EVERYTHING, EVERYTHING).without) == len(SEASON)
    gone = next(one for one in holdings_of(filled).sightings if one.name == "f1.jpg")
    gone.file.unlink()
    count, failed = embed_missing(filled, other, number)
    assert count == len(KNOWN) + len(SEASON) - 1
    assert [photo for photo, _ in failed] == [gone.photo]
    assert embed_missing(filled, other, number)[0] == 0


# --- restrictions ------------------------------------------------------------------------------------------


def test_restrictions_say_what_is_asked_and_what_it_is_compared_with(tmp_path, photos):
    catalogue = create_catalogue(str(tmp_path / "whales"))
    longitudes = [170 + n if n <= 10 else n - 190 for n in range(len(KNOWN))]
    rows = [
        f"known/{name},{name.split('/')[0]},2025-0{n % 3 + 1}-01,{-40 - n},{longitude},left"
        for n, (name, longitude) in enumerate(zip(KNOWN, longitudes, strict=True))
    ]
    rows += [f"season/{name},,2026-07-01,-41,179.5,right" for name in SEASON]
    table = photos / "all.csv"
    table.write_text("\n".join(["image,id,date,lat,lon,side", *rows]))
    import_folder(catalogue, table, photos=photos)
    everything = answered(catalogue)
    assert (everything.photos, sum(len(one.encounters) for one in everything.asked)) == (18, 7)
    counts = {
        "since=2026": 0, "until=2025-02": 12, "until=2025-02-01": 12, "since=2025-03-01": 6, "viewpoint=LEFT": 18,
        "until=2025-2": 12, "since=2025-3-1": 6, "since=20250301": 6, "since=13/2/2025": 6,
        "viewpoint=right": 0, "area=-45,170,-40,175": 6, "area=-90,175,90,171": 15, "flags=none": 18, "place=x": 0,
    }  # fmt: skip
    for condition, number in counts.items():
        assert (condition, answered(catalogue, against=restriction([condition])).photos) == (condition, number)
    assert answered(catalogue, only=restriction(["until=2025-12-31"])).asked == []


@pytest.mark.parametrize(
    "text", ["x=1", "since", "since=", "area=1,2,3", "area=5,0,-5,0", "area=a,b,c,d", "since=x", "until=3/4/2026"]
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(FlukeprintError):
        restriction([text])


# --- evidence ----------------------------------------------------------------------------------------------


def photo(new: float, **chances: float) -> Match:
    return Match([RankedCandidate(name, chance, 0.5, 0.5, "x", 1) for name, chance in chances.items()], new)


def test_one_photo_gives_its_own_answer():
    answer = together([photo(0.3, a=0.4, b=0.2)], 0.325, 50)
    assert [(one.id, round(one.probability, 9)) for one in answer.candidates] == [("a", 0.4), ("b", 0.2)]
    assert answer.new_probability == pytest.approx(0.3)


def test_photos_that_agree_are_surer_than_one_and_less_sure_than_independent_ones():
    one, two = (together([photo(0.3, a=0.4, b=0.2)] * number, 0.325, 50).candidates[0].probability for number in (1, 2))
    ratio = np.array([0.4 / (0.675 / 50), 0.2 / (0.675 / 50), (0.1 / 48) / (0.675 / 50), 0.3 / 0.325])
    prior = np.array([0.675 / 50, 0.675 / 50, 0.675 * 48 / 50, 0.325])
    independent = (prior * ratio**2 / (prior * ratio**2).sum())[0]
    assert one < two < independent


def test_photos_that_disagree_leave_it_open():
    answer = together([photo(0.1, a=0.8, b=0.05), photo(0.1, b=0.8, a=0.05)], 0.325, 50)
    assert [one.probability for one in answer.candidates] == [pytest.approx(answer.candidates[0].probability)] * 2
    assert answer.candidates[0].probability < 0.8


def test_a_rejected_individual_leaves_its_share_to_the_others():
    answer = together([photo(0.3, a=0.6, b=0.1)], 0.325, 2, {"a"})
    assert [(one.id, one.probability) for one in answer.candidates] == [("b", pytest.approx(0.25))]
    assert answer.new_probability == pytest.approx(0.75)


def test_an_individual_that_only_one_photo_names_is_a_candidate():
    answer = together([photo(0.2, a=0.7), photo(0.5, b=0.1)], 0.325, 100)
    assert {one.id for one in answer.candidates} == {"a", "b"}
    assert sum(one.probability for one in answer.candidates) + answer.new_probability < 1


def test_encounters_are_grouped_by_the_average_of_their_pairs():
    odds = np.array([[0, 3, -4], [3, 0, 1], [-4, 1, 0]], float)
    assert clusters(odds).tolist() == [0, 0, 1]
    assert clusters(np.zeros((2, 2)) - 1).tolist() == [0, 1]
    assert clusters(np.zeros((3, 3)) + 1).tolist() == [0, 0, 0]


def test_a_gallery_of_the_catalogue_is_one_of_the_pipelines_kind(filled):
    from flukeprint.catalogue.season import Photos

    photos = Photos.read(filled, MODEL, 1)
    known = [one for one in photos.holdings.sightings if one.individual]
    gallery = photos.gallery(MODEL, known)
    names = [one.sha256 for one in known]
    vectors = photos.of(one.photo for one in known)
    plain = build_gallery(vectors, names, [one.individual for one in known], MODEL.provenance, names)
    assert gallery.photos == plain.photos
    assert (gallery.vectors == plain.vectors).all()


# --- re-ranked by matched keypoints --------------------------------------------------------------------------


@pytest.fixture
def speckles(catalogue, tmp_path):
    """Two individuals whose photos look alike from afar, and a photo with the speckles of the second, seen aslant."""
    pytest.importorskip("cv2", reason="the extra local is not installed")
    common = np.asarray(texture(7, (320, 160)), np.float32)
    for name, seed, angle in (("known/w_a/a.jpg", 1, 0), ("known/w_b/b.jpg", 2, 0), ("season/e_1/q.jpg", 2, 9)):
        own = np.asarray(speckled(seed), np.float32)
        photo = Image.fromarray((0.5 * common + 0.5 * own).astype(np.uint8)).rotate(angle)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo.crop((angle, angle, 320, 160)).save(tmp_path / name, quality=95)
    import_folder(catalogue, tmp_path / "known")
    import_folder(catalogue, tmp_path / "season", "encounters")
    local_calibration(first=2).write(tmp_path)
    return replace(MODEL, folder=tmp_path)


def test_keypoints_that_match_make_an_individual_more_likely(catalogue, speckles):
    number = known_model(catalogue, speckles)
    [plain], [local] = (
        ask(catalogue, speckles, number, EVERYTHING, EVERYTHING, local=wanted).asked
        for wanted in (None, LocalMatching.of(speckles))
    )
    before, after = ({one.id: one.probability for one in asked.answer.candidates} for asked in (plain, local))
    assert set(before) == set(after) == {"w_a", "w_b"}
    both = sum(before.values())
    assert after["w_b"] > 0.9 * both > before["w_b"]
    assert sum(after.values()) == pytest.approx(both)
    assert local.answer.new_probability == pytest.approx(plain.answer.new_probability)


def test_answers_say_that_keypoints_were_matched_and_that_this_was_fitted_on_an_earlier_run(catalogue, speckles):
    local_calibration(first=2, fitted_to=PROVENANCE).write(speckles.folder)
    number, local = known_model(catalogue, speckles), LocalMatching.of(speckles)
    season = ask(catalogue, speckles, number, EVERYTHING, EVERYTHING, local=local)
    content = json.loads(season_json(season))
    assert content["local_matching"] == {"matcher": "sift", "first": 2, "calibration_note": EARLIER}
    assert content["calibration_note"] == EARLIER
    assert local.fitted.says in season_text(season, 3, "whales")
    assert f"anew ({EARLIER})" in local.fitted.says


def test_matched_keypoints_are_kept_beside_the_answer_and_gone_with_it(catalogue, speckles):
    number, local = known_model(catalogue, speckles), LocalMatching.of(speckles)
    [asked] = ask(catalogue, speckles, number, EVERYTHING, EVERYTHING, local=local).asked
    by_file = {one.name: one.photo for one in holdings_of(catalogue).sightings}
    with catalogue.database.reading() as connection:
        best, other = read_matches(connection, [by_file["q.jpg"]], by_file.values(), 9)
    assert (best.other, other.other) == (by_file["b.jpg"], by_file["a.jpg"])
    assert best.number > 20 > other.number
    assert {one.other: one.number for one in asked.keypoints} == {one.other: one.number for one in (best, other)}
    ask(catalogue, speckles, number, EVERYTHING, EVERYTHING)
    with catalogue.database.reading() as connection:
        assert read_matches(connection, [by_file["q.jpg"]], by_file.values(), 9) == []


def test_a_photo_whose_file_is_gone_keeps_its_answer(catalogue, speckles):
    number = known_model(catalogue, speckles)
    [plain] = ask(catalogue, speckles, number, EVERYTHING, EVERYTHING).asked
    for one in holdings_of(catalogue).sightings:
        if one.encounter_name == "e_1":
            one.file.unlink()
    local_matching = LocalMatching.of(speckles)
    [local] = ask(catalogue, speckles, number, EVERYTHING, EVERYTHING, local=local_matching).asked
    assert local.answer == plain.answer
