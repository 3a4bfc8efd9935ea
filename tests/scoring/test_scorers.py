from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.vectors import vectors_of
from flukeprint.scoring.candidates import (
    Scored,
    best_candidates,
    best_columns,
    candidate_rows,
    read_candidates,
    scored_of,
    write_candidates,
)
from flukeprint.scoring.labelled_photos import LabelledPhotos
from flukeprint.scoring.registry import BLEND, ENSEMBLE, GALLERY, GALLERY_CENTRE, GALLERY_NEAREST, scorer_names
from flukeprint.scoring.scorers import (
    Member,
    classify,
    most_frequent,
    near_duplicates,
    nearest_photos,
    score_queries,
)

LABELS = [NEW_WHALE, *(f"w_{number}" for number in range(6))]


def member(name: str, seed: int, n: int = 9, labels: list[str] = LABELS) -> Member:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Linear(4, len(labels))
    return Member(name, head, labels, np.random.default_rng(seed).normal(size=(n, 2, 4)).astype(np.float32))


def logits(one: Member, row: int, views: int) -> np.ndarray:
    weight, bias = one.head.weight.detach().numpy(), one.head.bias.detach().numpy()
    return sum(weight @ one.embeddings[row, view] + bias for view in range(views))


def gallery(labels: list[str], clusters: list[int] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Image": [f"{number:03}.jpg" for number in range(len(labels))],
            "Id": labels,
            "cluster": clusters or range(len(labels)),
            "pixel": range(len(labels)),
        }
    )


def scores_of(scored: Scored) -> list[list[float]]:
    return [row[own].tolist() for row, own in zip(scored.scores, scored.filled, strict=True)]


@given(
    scores=arrays(np.float32, st.tuples(st.integers(0, 5), st.just(9)), elements=st.integers(0, 3).map(float)),
    depth=st.integers(1, 10),
)
def test_the_best_stand_first_and_equal_ones_by_label(scores, depth):
    labels = [NEW_WHALE, *(f"w_{number}" for number in range(8))]
    best = best_candidates(scores, labels, depth)
    assert best.new_score.tolist() == scores[:, 0].tolist()
    for row, candidates, kept in zip(scores, best.labels(), scores_of(best), strict=True):
        expected = sorted((-score, label) for score, label in zip(row[1:], labels[1:], strict=True))[:depth]
        assert list(zip([-score for score in kept], candidates, strict=True)) == expected


@pytest.mark.parametrize("columns", [1, 20, 21, 300, 5000, 20_001])
@pytest.mark.parametrize("decimals", [1, 6])
def test_the_best_of_many_columns_are_those_of_a_full_sort(columns, decimals):
    scores = np.random.default_rng(columns).standard_normal((7, columns)).round(decimals).astype(np.float32)
    scores[0], scores[1, 1:] = -np.inf, -np.inf  # equal ones all, and all but one
    best = best_columns(scores, 20)
    assert best.tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :20].tolist()
    assert best_columns(scores[:0], 20).shape == best[:0].shape


def test_without_a_new_whale_class_there_is_no_score_for_it():
    best = best_candidates(np.ones((2, 3), np.float32), ["a", "b", "c"], 2)
    assert best.labels() == [["a", "b"]] * 2
    assert np.isnan(best.new_score).all()


@pytest.mark.parametrize("views", [1, 2])
def test_logits_are_summed_then_log_softmax_then_ranked(views):
    members = [member("a", 1), member("b", 2)]
    rows = np.array([3, 0])
    scored = classify(members, rows, views)
    assert list(scored) == ["a", "b", ENSEMBLE]
    for name, chosen in (("a", members[:1]), ("b", members[1:]), (ENSEMBLE, members)):
        for number, row in enumerate(rows):
            total = sum(logits(one, row, views) for one in chosen)
            expected = np.exp(total - total.max()) / np.exp(total - total.max()).sum()
            order = 1 + np.argsort(-expected[1:])
            assert scored[name].labels()[number] == [LABELS[index] for index in order]
            np.testing.assert_allclose(np.exp(scores_of(scored[name])[number]), expected[order], rtol=1e-4)
            assert np.exp(scored[name].new_score[number]) == pytest.approx(expected[0], rel=1e-4)


def test_the_ensemble_alone_is_the_same_as_with_its_members():
    members, rows = [member("a", 1), member("b", 2)], np.arange(9)
    alone = classify(members, rows, 1, apart=False)
    assert list(alone) == [ENSEMBLE]
    assert alone[ENSEMBLE].labels() == classify(members, rows, 1)[ENSEMBLE].labels()


def test_far_apart_logits_keep_their_order():
    """The softmax itself underflows here: all but the best would be equal."""
    one = member("a", 1, labels=LABELS[:4])
    with torch.no_grad():
        one.head.weight.zero_()
        one.head.bias.copy_(torch.tensor([0.0, -300.0, 500.0, -200.0]))
    scored = classify([one], np.array([0]), 1)["a"]
    assert scored.labels() == [["w_1", "w_2", "w_0"]]


def test_no_photos_give_no_candidates():
    scored = classify([member("a", 1)], np.array([], np.int64), 1)[ENSEMBLE]
    assert scored.labels() == []
    assert scored.new_score.shape == (0,)


def test_heads_for_different_labels_are_refused():
    with pytest.raises(FlukeprintError, match="members a and b have heads for different labels"):
        classify([member("a", 1), member("b", 2, labels=LABELS[::-1])], np.array([0]), 1)


def test_the_most_frequent_are_counted_in_photos():
    scored = most_frequent(gallery(["b", "a", "c", "b", NEW_WHALE, NEW_WHALE, NEW_WHALE, "a"]), 2)
    assert scored.labels() == [["a", "b", "c"]] * 2
    np.testing.assert_allclose(np.exp(scores_of(scored)), [[2 / 8, 2 / 8, 1 / 8]] * 2, rtol=1e-6)
    np.testing.assert_allclose(np.exp(scored.new_score), [3 / 8] * 2, rtol=1e-6)
    assert np.isnan(most_frequent(gallery(["a", "b"]), 1).new_score).all()


def test_duplicates_give_the_labels_of_the_querys_cluster():
    photos = gallery(["b", "a", "b", NEW_WHALE, "a", NEW_WHALE], [7, 7, 7, 7, 8, 9])
    scored = near_duplicates(photos, [7, 8, 9, 10])
    assert scored.labels() == [["b", "a"], ["a"], [], []]
    assert scores_of(scored) == [[0.5, 0.25], [1.0], [], []]
    assert scored.new_score.tolist() == [0.25, 0.0, 1.0, 0.0]


def nearest(embeddings: np.ndarray, photos: pd.DataFrame, rows: np.ndarray) -> Scored:
    parts = [embeddings[:, None]]
    return nearest_photos(LabelledPhotos.of(photos, parts, 1), vectors_of(parts, rows, 1))


@pytest.mark.numeric
@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_nearest_photo_is_the_largest_cosine_by_individual(seed):
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(30, 5)).astype(np.float32)
    photos = gallery([LABELS[index] for index in generator.integers(0, 7, 24)])
    scored = nearest(embeddings, photos, np.arange(24, 30))
    for number, query in enumerate(embeddings[24:].astype(float)):
        best: Counter[str] = Counter()
        for label, other in zip(photos["Id"], embeddings[:24].astype(float), strict=True):
            cosine = query @ other / np.linalg.norm(query) / np.linalg.norm(other)
            best[label] = max(cosine, best.get(label, -2.0))
        new = best.pop(NEW_WHALE, float("nan"))
        assert scored.labels()[number] == [label for label, _ in best.most_common()]
        np.testing.assert_allclose(scores_of(scored)[number], [value for _, value in best.most_common()], atol=1e-6)
        assert scored.new_score[number] == pytest.approx(new, abs=1e-6, nan_ok=True)


def test_an_embedding_of_zeros_is_similar_to_nothing():
    scored = nearest(np.zeros((3, 4), np.float32), gallery(["b", "a"]), np.array([2]))
    assert scored.labels() == [["a", "b"]]
    assert scores_of(scored) == [[0.0, 0.0]]


def test_every_scorer_of_the_ladder_answers(tmp_path):
    labels = LABELS[:3]
    members = [member("m1", 1, labels=labels), member("m2", 2, labels=labels)]
    photos = gallery([*labels, "w_1"], [1, 2, 3, 3])
    queries = pd.DataFrame({"Image": ["x", "y"], "cluster": [3, 5], "pixel": [4, 5]})
    pretrained = np.random.default_rng(0).normal(size=(9, 1, 4)).astype(np.float32)
    scored = score_queries(queries, photos, pretrained, members, 1)
    assert list(scored) == scorer_names(["m1", "m2"])
    rows = pd.concat([candidate_rows(queries[["Image"]], name, answer) for name, answer in scored.items()])
    write_candidates(tmp_path / "rows.parquet", rows)
    read = read_candidates(tmp_path / "rows.parquet")
    assert read["scorer"].tolist() == [name for name in scored for _ in range(2)]
    assert [list(row) for row in read["candidates"]] == rows["candidates"].tolist()
    assert read["new_score"].dtype == np.float32
    assert all((np.diff(row) <= 0).all() for row in read["scores"])
    for name, answer in scored.items():
        again = scored_of(read[read["scorer"] == name], name)
        assert again.labels() == answer.labels()
        np.testing.assert_array_equal(again.features[again.filled], answer.features[answer.filled])
        if name not in (GALLERY, BLEND):
            np.testing.assert_array_equal(again.new_features, answer.new_features)


def cosine(parts: list[np.ndarray], one: int, other: np.ndarray) -> float:
    """The definition: the mean over members of the cosine similarity to a vector of all of them."""
    query = np.concatenate([part[one, 0] / np.linalg.norm(part[one, 0].astype(float)) for part in parts])
    return float(query @ other / np.linalg.norm(query) / np.linalg.norm(other))


@pytest.mark.numeric
def test_the_scorers_of_the_gallery_hold_exact_features():
    """Of every candidate and of the photo, against a recomputation in float64."""
    generator = np.random.default_rng(3)
    labels = [NEW_WHALE, *(f"w_{number:02}" for number in range(50))]
    members = [member("m1", 1, 170, labels), member("m2", 2, 170, labels)]
    parts = [one.embeddings for one in members]
    photos = gallery([*labels, *generator.choice(labels, 160 - len(labels))])
    photos["pixel"] = generator.permutation(160)
    scored = classify(members, np.arange(160, 170), 1, photos=LabelledPhotos.of(photos, parts, 1))
    assert list(scored) == ["m1", "m2", ENSEMBLE, GALLERY_NEAREST, GALLERY_CENTRE, GALLERY, BLEND]
    vector = np.concatenate(
        [part[:, 0] / np.linalg.norm(part[:, 0].astype(float), axis=1, keepdims=True) for part in parts], axis=1
    )
    rows_of = photos.groupby("Id")["pixel"].agg(list).to_dict()
    for number, row in enumerate(range(160, 170)):
        nearest = {label: max(cosine(parts, row, vector[one]) for one in own) for label, own in rows_of.items()}
        centre = {label: cosine(parts, row, vector[own].sum(axis=0)) for label, own in rows_of.items()}
        total = sum(logits(one, row, 1) for one in members)
        head = dict(zip(labels, total - np.log(np.exp(total).sum()), strict=True))
        new = [values.pop(NEW_WHALE) for values in (head, nearest, centre)]
        best = [sorted(values, key=lambda label: -values[label])[:20] for values in (nearest, centre, head)]
        assert scored[GALLERY_NEAREST].labels()[number] == best[0]
        assert scored[GALLERY_CENTRE].labels()[number] == best[1]
        assert set(scored[GALLERY].labels()[number]) == {*best[0], *best[1]}
        assert set(scored[BLEND].labels()[number]) == {*best[0], *best[1], *best[2]}
        for name, kinds in ((GALLERY, (nearest, centre)), (BLEND, (nearest, centre, head))):
            expected = [[kind[label] for kind in kinds] for label in scored[name].labels()[number]]
            found = scored[name].features[number][scored[name].filled[number]]
            np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(scored[BLEND].new_features[number], new[:2], atol=1e-5)


def test_heads_for_other_individuals_than_the_photos_are_refused():
    photos = LabelledPhotos.of(gallery(["w_0", "w_9"]), [member("m1", 1).embeddings], 1)
    with pytest.raises(FlukeprintError, match="7 labels, and not the 2 individuals"):
        classify([member("m1", 1)], np.array([0]), 1, photos=photos)


def test_photos_without_new_whale_or_without_individuals():
    parts = [member("m1", 1).embeddings]
    queries = vectors_of(parts, np.arange(3), 1)
    assert np.isnan(LabelledPhotos.of(gallery(["a", "b"]), parts, 1).nearest_new(queries)).all()
    none = LabelledPhotos.of(gallery([NEW_WHALE]), parts, 1)
    assert none.names.tolist() == []
    assert nearest_photos(none, queries).labels() == [[], [], []]
    assert none.nearest_new(queries)[0] == pytest.approx(1, abs=1e-6)


def test_tables_without_rows_or_candidates_have_the_same_types(tmp_path):
    import pyarrow.parquet as pq

    schemas = []
    for number, clusters in enumerate([[], [9], [7]]):
        scored = near_duplicates(gallery(["a"], [7]), clusters)
        write_candidates(
            tmp_path / f"{number}", candidate_rows(pd.DataFrame({"Image": ["x"] * len(clusters)}), "d", scored)
        )
        schemas.append(pq.read_schema(tmp_path / f"{number}").remove_metadata())
    assert schemas[0] == schemas[1] == schemas[2]


def test_a_table_of_an_older_version_is_refused(tmp_path):
    with pytest.raises(FlukeprintError, match=r"none\.parquet is missing"):
        read_candidates(tmp_path / "none.parquet")
    pd.DataFrame({"Image": ["x"], "labels": [["a"]]}).to_parquet(tmp_path / "old.parquet")
    with pytest.raises(FlukeprintError, match=r"old\.parquet has no column 'candidates'.*dvc repro ensemble"):
        read_candidates(tmp_path / "old.parquet")
