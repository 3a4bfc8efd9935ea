"""Probabilities in galleries of any size: what is drawn, what is fitted to it, and whether it is true."""

import numpy as np
import pytest
from calibrations import open_set
from hypothesis import given, settings
from hypothesis import strategies as st

from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation.figures import BINS
from flukeprint.metrics.arrays import new_share_weights
from flukeprint.metrics.reliability import expected_calibration_error, reliability_bins
from flukeprint.retrieval.search import DEPTH
from flukeprint.retrieval.vectors import chunks
from flukeprint.scoring import small_galleries
from flukeprint.scoring.calibrated_answers import Answers, calibrated
from flukeprint.scoring.calibration import GallerySizes, OpenSetCalibration, ScoreFusion
from flukeprint.scoring.calibration_fitting import SIZES, fit_scorer, fit_sizes
from flukeprint.scoring.candidates import Scored
from flukeprint.scoring.fusion import fuse
from flukeprint.scoring.registry import GALLERY
from flukeprint.scoring.small_galleries import FullGallery, GalleryQueries, Similar

INDIVIDUALS, QUERIES, SHARE = 400, 600, 0.3
HALF = ScoreFusion(features={"nearest": 0.5, "centre": 0.5}, new_features={})


def gallery_of(names: np.ndarray, nearest: np.ndarray, centre: np.ndarray, truth: list[str], by: int) -> FullGallery:
    """What gives the similarities of `by` queries at a time."""
    place = np.array([names.tolist().index(label) if label in names else -1 for label in truth])
    parts = [Similar(rows, nearest[rows], centre[rows]) for rows in chunks(np.arange(len(truth)), by)]
    return FullGallery(names, np.ones(len(names), np.int64), place, lambda: iter(parts))


def full_gallery(seed: int = 0, *, narrow: bool = False, by: int = 256) -> FullGallery:
    """Similarities of queries, two thirds of them of known whales: 0.25 to others, more to the right one."""
    generator = np.random.default_rng(seed)
    names = np.array([f"w_{number:04}" for number in range(INDIVIDUALS)])
    truth = [*generator.choice(names, QUERIES * 2 // 3).tolist(), *[NEW_WHALE] * (QUERIES - QUERIES * 2 // 3)]
    quality = generator.uniform(0.1, 0.6, size=(QUERIES, 1))
    own = quality * (np.array(truth)[:, None] == names)
    nearest, centre = (np.clip(0.25 + own + generator.normal(0, 0.1, size=own.shape), -1, 1) for _ in range(2))
    if narrow:
        nearest, centre = (0.9 + 0.05 * values for values in (nearest, centre))
    return gallery_of(names, nearest, centre, truth, by)


def similar_to(full: FullGallery) -> Similar:
    """Return the similarities of all queries."""
    return Similar(*map(np.concatenate, zip(*full.similar(), strict=True)))


def fused(full: FullGallery, *sizes: int, draws: int = 5) -> list[GalleryQueries]:
    return [one._replace(scored=fuse(one.scored, GALLERY, HALF)) for one in full.asked(sizes, draws)]


def whole(full: FullGallery) -> GalleryQueries:
    """The queries in the gallery of all individuals, with the best 40 of them."""
    _, nearest, centre = similar_to(full)
    label = np.argsort(-(nearest + centre), axis=1)[:, :40]
    pairs = [np.take_along_axis(values, label, axis=1) for values in (nearest, centre)]
    nothing = np.full((len(label), 1), np.nan)
    return GalleryQueries(
        len(full), fuse(Scored(full.names, label, np.dstack(pairs), nothing), GALLERY, HALF), full.truth
    )


def fitted_to_sizes(full: FullGallery) -> OpenSetCalibration:
    everybody = whole(full)
    alone = fit_scorer(everybody.scored, full.truth, "one score", SHARE)[1]
    return fit_sizes([*fused(full, *SIZES), everybody], SHARE, alone, photos=3)


@pytest.fixture(scope="module")
def fitted() -> OpenSetCalibration:
    return fitted_to_sizes(full_gallery(0))


def error(asked: list[GalleryQueries], fitted: OpenSetCalibration) -> float:
    """The expected calibration error of the first labels, new whales weighted to their share."""
    answers = [calibrated(one.scored, fitted, 1, one.individuals) for one in asked]
    confidence = [values[0] for one in answers for values in one.probabilities]
    truth = [label for one in asked for label in one.truth]
    right = [labels[0] for one in answers for labels in one.labels] == np.array(truth)
    weights = new_share_weights(np.array(truth) == NEW_WHALE, SHARE)
    return expected_calibration_error(reliability_bins(confidence, right, BINS, weights))


def test_a_drawn_gallery_has_whom_the_query_shows_and_others_at_random():
    full = full_gallery()
    one, two = full.asked([7], 2)
    assert (one.individuals, one.truth) == (7, full.truth)
    assert (one.scored.filled.sum(axis=1) == 7).all()
    right = one.scored.label == one.scored.places_of(full.truth)[:, None]
    assert (right.sum(axis=1) == (np.array(full.truth) != NEW_WHALE)).all()
    assert (one.scored.label != two.scored.label).any()
    _, nearest, centre = similar_to(full)
    for row in (0, QUERIES - 1):
        place = one.scored.label[row, :7]
        np.testing.assert_array_equal(one.scored.features[row, :7, 0], nearest[row, place].astype(np.float32))
        np.testing.assert_array_equal(one.scored.features[row, :7, 1], centre[row, place].astype(np.float32))
    drawn = np.bincount(np.concatenate([part.scored.label[right == 0] for part in (one,)])[:, None].ravel() + 1)
    assert drawn[1:].min() > 0  # everybody is somewhere


def test_the_same_galleries_are_drawn_again_and_none_that_is_the_whole():
    """However many queries are looked at together."""
    one, again = (full_gallery(by=by).asked([3, 100, INDIVIDUALS], 2) for by in (256, 7))
    assert [part.individuals for part in one] == [3, 3, 100, 100]
    for part, other in zip(one, again, strict=True):
        np.testing.assert_array_equal(part.scored.label, other.scored.label)


def test_the_best_by_either_similarity_are_those_of_a_full_sort():
    full = full_gallery()
    _, nearest, centre = similar_to(full)
    nearest[:, 1::2] = nearest[:, ::2]  # equal ones stand in the order of their places
    [one] = gallery_of(full.names, nearest, centre, full.truth, 256).asked([INDIVIDUALS - 1], 1)
    for row in range(0, QUERIES, 50):
        drawn = np.flatnonzero(np.isin(np.arange(INDIVIDUALS), one.scored.label[row]))
        order = drawn[np.lexsort((drawn, -nearest[row, drawn]))]
        assert one.scored.label[row, : len(order)].tolist() == order.tolist()
        # All but one of the individuals were drawn.
        for values in (nearest[row], centre[row]):
            best = np.lexsort((np.arange(INDIVIDUALS), -values))[:DEPTH]
            assert len(set(best.tolist()) - set(drawn.tolist())) <= 1


def test_many_queries_search_fewer_galleries(monkeypatch):
    monkeypatch.setattr(small_galleries, "_ANSWERS", 3 * QUERIES - 1)
    assert [one.individuals for one in full_gallery().asked([3, 7], 10)] == [3, 3, 7, 7]
    monkeypatch.setattr(small_galleries, "_ANSWERS", 1)
    assert [one.individuals for one in full_gallery().asked([3, 7], 10)] == [3, 7]


@pytest.mark.parametrize("size", [1, 10, 100, INDIVIDUALS])
def test_probabilities_are_true_at_every_size(fitted, size):
    """On other queries; what was fitted to the whole gallery alone is not true in a small one."""
    other = full_gallery(1)
    asked = [whole(other)] if size == INDIVIDUALS else fused(other, size)
    assert error(asked, fitted) < 0.05
    alone = fitted.model_copy(update={"sizes": None})
    if size <= 10:
        assert error(asked, alone) > 0.1


def test_the_share_of_new_whales_is_the_declared_one_at_every_size(fitted):
    for size in (1, 10, 100):
        for one in fused(full_gallery(1), size, draws=1):
            new = calibrated(one.scored, fitted, 1, size).new_probability
            weights = new_share_weights(np.array(one.truth) == NEW_WHALE, SHARE)
            assert np.average(new, weights=weights) == pytest.approx(SHARE, abs=0.04)


def one_query(similarities: list[float], fitted: OpenSetCalibration) -> Answers:
    names = np.array([f"w_{number}" for number in range(len(similarities))])
    order = np.argsort(-np.array(similarities))
    values = np.array(similarities)[None, order, None]
    return calibrated(Scored(names, order[None], values, np.full((1, 1), np.nan)), fitted, 1, len(names))


def test_none_of_the_gallery_reaches_every_value(fitted):
    """A gallery of one asked with its own photo; one of ten asked with a photo that is like nobody's."""
    assert one_query([1.0], fitted).new_probability[0] < 0.01
    assert one_query([0.1] * 10, fitted).new_probability[0] > 0.95
    between = [one_query([similarity, *[0.2] * 9], fitted).new_probability[0] for similarity in np.linspace(0, 1, 101)]
    assert (np.diff(between) <= 0).all()
    assert np.abs(np.diff(between)).max() < 0.15


def test_probabilities_are_true_where_all_cosines_are_nearly_one():
    """As those of a weak network are; what matters is the differences."""
    decision = fitted_to_sizes(full_gallery(0, narrow=True))
    for size in (1, 10, 100):
        assert error(fused(full_gallery(1, narrow=True), size), decision) < 0.05


def sized(end: tuple, start: tuple, individuals: int) -> OpenSetCalibration:
    first = dict(zip(("inverse_temperature", "other", "new"), start, strict=True))
    sizes = GallerySizes(individuals=individuals, photos=4, **first)
    return open_set(*end, None).model_copy(update={"sizes": sizes})


def test_parameters_lie_on_lines_over_the_logarithm_and_go_on_by_bayes_rule():
    decision = sized((4.0, 2.0, 8.0), (2.0, 1.0, 3.0), 100)
    assert decision.logits(0) == decision.logits(1) == (2.0, 1.0, 3.0)
    assert decision.logits(10) == pytest.approx((3.0, 1.5, 5.5))
    assert decision.logits(100) == pytest.approx((4.0, 2.0, 8.0))
    assert decision.logits(300) == pytest.approx((4.0, 2.0, 8.0 + np.log(3)))
    assert [decision.beyond(number) is None for number in (1, 100, 200, 201)] == [True, True, True, False]
    assert [decision.beyond_photos(number) is None for number in (1, 8, 9)] == [True, True, False]
    assert open_set(4.0, 2.0, 8.0, None).beyond(100)


def test_another_individual_is_as_likely_as_there_are_others():
    decision = sized((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 100)
    names = np.array(["a", "b"])
    scored = Scored(names, np.array([[0, 1]]), np.ones((1, 2, 1)), np.full((1, 1), np.nan))
    assert calibrated(scored, decision, 3, 2).new_probability[0] == pytest.approx(1 / 3)
    assert calibrated(scored, decision, 3, 12).new_probability[0] == pytest.approx(1 / 13)
    assert calibrated(scored, decision, 3).new_probability[0] == pytest.approx(1 / 101)


Extreme = st.sampled_from([0.0, 1.0, 1e12])
Signed = st.sampled_from([0.0, 1.0, -1e12, 1e12])


@settings(max_examples=200, deadline=None)
@given(
    a=Extreme,
    b=Signed,
    c=Signed,
    start=st.tuples(Extreme, Signed, Signed),
    individuals=st.sampled_from([0, 1, 2, 10**9]),
)
def test_whatever_a_decision_may_hold_probabilities_are_numbers(a, b, c, start, individuals):
    decision = sized((a, b, c), start, 2)
    label = np.array([[0, 1], [0, -1]])
    scored = Scored(np.array(["a", "b"]), label, np.array([[[1.0], [-1.0]], [[1.0], [0.0]]]), np.full((2, 1), np.nan))
    answers = calibrated(scored, decision, 3, individuals)
    values = [value for row in answers.probabilities for value in row]
    assert all(0 <= value <= 1 for value in [*values, *answers.new_probability.tolist()])
