"""A photo has the same candidates by `identify` as by the pipeline: the same ids, similarities and probabilities."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from calibrations import calibration_of, open_set
from gallery_folder import PROVENANCE
from torch import nn

from flukeprint.data.labels import NEW_WHALE
from flukeprint.identify.matching import match, why_uncalibrated
from flukeprint.retrieval.gallery import Gallery, build_gallery
from flukeprint.retrieval.search import DEPTH, Searcher
from flukeprint.retrieval.vectors import vectors_of
from flukeprint.scoring.calibrated_answers import calibrated
from flukeprint.scoring.calibration import Calibration, GallerySizes, ScoreFusion
from flukeprint.scoring.candidates import candidate_rows, gallery_candidates, read_candidates, write_candidates
from flukeprint.scoring.copies import decided, scored_copies
from flukeprint.scoring.fusion import fuse, fused_of
from flukeprint.scoring.registry import GALLERY, GALLERY_NEAREST
from flukeprint.scoring.scorers import Member, score_queries

INDIVIDUALS, QUERIES, VIEWS = 320, 60, 2
FUSION = ScoreFusion(features={"nearest": 0.25, "centre": 0.75}, new_features={})
CALIBRATION = calibration_of(scorers={GALLERY: open_set(20.0, 4.0, 12.0, None)}, fusions={GALLERY: FUSION})


@pytest.fixture(scope="module")
def photos() -> tuple[pd.DataFrame, list[Member]]:
    """The photos trained on, the queries after them, and two members: half of the individuals have one photo."""
    generator = np.random.default_rng(0)
    names = [f"w_{number:03}" for number in range(INDIVIDUALS)]
    ids = [*names, *names[::2] * 3, *[NEW_WHALE] * 10, *generator.choice(names, QUERIES)]
    place = np.array([names.index(name) if name in names else -1 for name in ids])
    table = pd.DataFrame({"Id": ids, "Image": [f"{n:04}.jpg" for n in generator.permutation(len(ids))]})
    table = table.assign(pixel=generator.permutation(len(ids)), cluster=range(len(ids)))
    members = []
    for name, width in (("m1", 5), ("m2", 7)):
        centres = generator.normal(size=(INDIVIDUALS + 1, VIEWS, width))
        embeddings = np.empty((len(ids), VIEWS, width), np.float32)
        embeddings[table["pixel"]] = centres[place] + 1.5 * generator.normal(size=(len(ids), VIEWS, width))
        with torch.random.fork_rng():
            torch.manual_seed(width)
            members.append(Member(name, nn.Linear(width, INDIVIDUALS + 1), sorted({*ids}), embeddings))
    return table, members


@pytest.fixture(scope="module")
def rows(photos, tmp_path_factory) -> pd.DataFrame:
    """The pipeline's rows of query.parquet, written and read."""
    table, members = photos
    queries = table[-QUERIES:]
    scored = score_queries(queries, table[:-QUERIES], members[0].embeddings, members, VIEWS)
    path = tmp_path_factory.mktemp("predictions") / "query.parquet"
    write_candidates(path, pd.concat([candidate_rows(queries[["Image"]], name, scored[name]) for name in scored]))
    return read_candidates(path)


@pytest.fixture(scope="module")
def gallery(photos) -> Gallery:
    table, members = photos
    known = table[:-QUERIES][table["Id"][:-QUERIES] != NEW_WHALE]
    vectors = vectors_of([member.embeddings for member in members], known["pixel"].to_numpy(), VIEWS)
    return build_gallery(vectors, known["Image"].tolist(), known["Id"].tolist(), PROVENANCE)


@pytest.fixture(scope="module")
def queries(photos) -> np.ndarray:
    table, members = photos
    return vectors_of([member.embeddings for member in members], table["pixel"].to_numpy()[-QUERIES:], VIEWS)


def test_half_of_the_individuals_have_one_photo_and_some_are_near_by_centre_alone(gallery, queries):
    counts = np.bincount(gallery.individual)
    assert (len(counts), (counts == 1).sum()) == (INDIVIDUALS, INDIVIDUALS // 2)
    found, everybody = (Searcher.of(gallery).search(queries, depth) for depth in (DEPTH, INDIVIDUALS))
    far = [
        set(one[one >= 0]) - set(all_of_them[: 2 * DEPTH])
        for one, all_of_them in zip(found.individual, everybody.individual, strict=True)
    ]
    assert sum(map(len, far)) > 20  # not even among twice as many by their nearest photo


def test_the_candidates_and_their_features_are_equal(rows, gallery, queries):
    of_pipeline = rows[rows["scorer"] == GALLERY]
    found = gallery_candidates(Searcher.of(gallery).search(queries), gallery.individuals)
    columns = ("candidates", "scores", "new_score", "features", "new_features")
    own = candidate_rows(of_pipeline[["Image"]], GALLERY, found)
    for column in columns:
        for one, other in zip(of_pipeline[column], own[column], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_answers_are_equal(rows, gallery, queries):
    fused = fused_of(rows[rows["scorer"] == GALLERY], GALLERY, CALIBRATION)
    answers = calibrated(fused, CALIBRATION.of(GALLERY), 1 + fused.label.shape[1])
    found = match(gallery, queries, CALIBRATION, DEPTH)
    assert [one.new_probability for one in found] == answers.new_probability.tolist()
    assert [[one.id for one in answer.candidates] for answer in found] == [one[:DEPTH] for one in fused.labels()]
    for answer, labels, chances in zip(found, answers.labels, answers.probabilities, strict=True):
        chance = dict(zip(labels, chances, strict=True))
        assert [one.probability for one in answer.candidates] == [chance[one.id] for one in answer.candidates]
    features = zip(rows.loc[rows["scorer"] == GALLERY, "candidates"], rows.loc[rows["scorer"] == GALLERY, "features"],
                   strict=True)  # fmt: skip
    for answer, (labels, values) in zip(found, features, strict=True):
        by_label = dict(zip(labels, values.reshape(-1, 2).tolist(), strict=True))
        for one in answer.candidates:
            assert by_label[one.id] == np.array([one.similarity, one.centre], np.float32).tolist()


def test_a_photo_is_answered_alone_as_among_others(gallery, queries):
    together = match(gallery, queries, CALIBRATION, DEPTH)
    assert [match(gallery, query[None], CALIBRATION, DEPTH)[0] for query in queries] == together


def copies_of(number: int, *labels: str) -> list[Counter[str]]:
    return [Counter(labels), *[Counter()] * (number - 1)]


def test_a_near_duplicate_is_answered_as_in_a_submission(gallery, queries):
    """Whom a near-duplicate shows stands first with its probability, even where no similarity names it."""
    plain = match(gallery, queries, CALIBRATION, INDIVIDUALS)
    ids = [one.id for one in plain[0].candidates]
    far = next(name for name in gallery.individuals if name not in ids)
    chance = CALIBRATION.named_duplicates.probability
    for label in (ids[14], far):
        answer, *others = match(gallery, queries, CALIBRATION, 3, copies_of(QUERIES, label))
        first, second, _ = answer.candidates
        assert (first.id, first.copy, second.id, second.copy) == (label, True, ids[0], False)
        model = 0.0 if label == far else plain[0].candidates[14].probability
        assert first.probability == pytest.approx(chance + (1 - chance) * model, abs=1e-4)
        assert second.probability == pytest.approx((1 - chance) * plain[0].candidates[0].probability, rel=1e-3)
        assert answer.new_probability == pytest.approx((1 - chance) * plain[0].new_probability, rel=1e-3)
        assert [one.candidates for one in others] == [one.candidates[:3] for one in plain[1:]]
    fused = fuse(gallery_candidates(Searcher.of(gallery).search(queries), gallery.individuals), GALLERY, FUSION)
    duplicates = scored_copies(copies_of(QUERIES, ids[14]))
    submitted = decided(fused, CALIBRATION.of(GALLERY), duplicates, CALIBRATION.named_duplicates, 41, INDIVIDUALS)
    answer = match(gallery, queries, CALIBRATION, 40, copies_of(QUERIES, ids[14]))[0]
    assert [one.id for one in answer.candidates] == [label for label in submitted.labels[0] if label != NEW_WHALE]


def test_without_a_calibration_near_duplicates_stand_first(gallery, queries):
    plain = match(gallery, queries[:1], None, DEPTH)[0]
    ids = [one.id for one in plain.candidates]
    [answer] = match(gallery, queries[:1], None, DEPTH, [Counter([ids[5], ids[9], ids[9]])])
    assert [one.id for one in answer.candidates] == [
        ids[9],
        ids[5],
        *(name for name in ids if name not in (ids[5], ids[9])),
    ]
    assert [one.copy for one in answer.candidates] == [True, True, *[False] * (DEPTH - 2)]
    assert answer.new_probability is None


def test_probabilities_beyond_what_was_calibrated_are_marked(gallery, queries):
    def reasons(individuals: int, photos: int) -> tuple[str | None, set[str | None]]:
        sizes = GallerySizes(individuals=individuals, photos=photos, inverse_temperature=20.0, other=4.0, new=12.0)
        fitted = CALIBRATION.of(GALLERY).model_copy(update={"sizes": sizes})
        [answer] = match(gallery, queries[:1], CALIBRATION.model_copy(update={"scorers": {GALLERY: fitted}}), 40)
        assert answer.new_probability is not None
        return answer.beyond, {one.beyond for one in answer.candidates}

    most = int(np.bincount(gallery.individual).max())
    assert reasons(INDIVIDUALS, most) == reasons(INDIVIDUALS // 2, most) == (None, {None})
    alone, of_candidates = reasons(INDIVIDUALS // 2 - 1, most)
    assert alone
    assert of_candidates == {alone}
    alone, of_candidates = reasons(INDIVIDUALS, (most - 1) // 2)
    assert alone is None
    assert len(of_candidates) == 2
    assert match(gallery, queries[:1], CALIBRATION, 1)[0].beyond  # one gallery's calibration holds for no other


def test_without_a_calibration_the_nearest_stand_first(rows, gallery, queries):
    of_pipeline = rows[rows["scorer"] == GALLERY_NEAREST]
    found = match(gallery, queries, None, DEPTH)
    assert [[one.id for one in answer.candidates] for answer in found] == [
        list(labels) for labels in of_pipeline["candidates"]
    ]
    assert {one.probability for answer in found for one in answer.candidates} == {None}
    names = {photo.image: photo.id for photo in gallery.photos}
    counts = np.bincount(gallery.individual)
    for answer in found:
        for one in answer.candidates:
            assert names[one.photo] == one.id
            assert counts[gallery.individuals.index(one.id)] == one.photos


@pytest.mark.parametrize(
    ("calibration", "reason"),
    [
        (None, "no decision.json"),
        (CALIBRATION.model_copy(update={"provenance": PROVENANCE.model_copy(update={"views": 2})}), "other weights"),
        (calibration_of(), "no calibration of the gallery"),
        (calibration_of(without={GALLERY: "too few queries"}), "too few queries"),
    ],
)
def test_why_there_are_no_probabilities(calibration: Calibration | None, reason: str):
    assert reason in (why_uncalibrated(calibration, PROVENANCE) or "")
    assert why_uncalibrated(CALIBRATION, PROVENANCE) is None
