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
from flukeprint.scoring.candidates import best_candidates, candidate_rows, read_candidates, write_candidates
from flukeprint.scoring.registry import ENSEMBLE, scorer_names
from flukeprint.scoring.scorers import Member, classify, most_frequent, near_duplicates, nearest_photo, score_queries

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
    return pd.DataFrame({"Id": labels, "cluster": clusters or range(len(labels)), "pixel": range(len(labels))})


@given(
    scores=arrays(np.float32, st.tuples(st.integers(0, 5), st.just(9)), elements=st.integers(0, 3).map(float)),
    depth=st.integers(1, 10),
)
def test_the_best_stand_first_and_equal_ones_by_label(scores, depth):
    labels = [NEW_WHALE, *(f"w_{number}" for number in range(8))]
    best = best_candidates(scores, labels, depth)
    assert best.new_score.tolist() == scores[:, 0].tolist()
    for row, candidates, kept in zip(scores, best.candidates, best.scores, strict=True):
        expected = sorted((-score, label) for score, label in zip(row[1:], labels[1:], strict=True))[:depth]
        assert list(zip((-kept).tolist(), candidates, strict=True)) == expected


def test_without_a_new_whale_class_there_is_no_score_for_it():
    best = best_candidates(np.ones((2, 3), np.float32), ["a", "b", "c"], 2)
    assert best.candidates == [["a", "b"]] * 2
    assert np.isnan(best.new_score).all()


@pytest.mark.numeric
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
            assert scored[name].candidates[number] == [LABELS[index] for index in order]
            np.testing.assert_allclose(np.exp(scored[name].scores[number]), expected[order], rtol=1e-4)
            assert np.exp(scored[name].new_score[number]) == pytest.approx(expected[0], rel=1e-4)


def test_the_ensemble_alone_is_the_same_as_with_its_members():
    members, rows = [member("a", 1), member("b", 2)], np.arange(9)
    alone = classify(members, rows, 1, apart=False)
    assert list(alone) == [ENSEMBLE]
    assert alone[ENSEMBLE].candidates == classify(members, rows, 1)[ENSEMBLE].candidates


@pytest.mark.numeric
def test_far_apart_logits_keep_their_order():
    """The softmax itself underflows here: all but the best would be equal."""
    one = member("a", 1, labels=LABELS[:4])
    with torch.no_grad():
        one.head.weight.zero_()
        one.head.bias.copy_(torch.tensor([0.0, -300.0, 500.0, -200.0]))
    scored = classify([one], np.array([0]), 1)["a"]
    assert scored.candidates == [["w_1", "w_2", "w_0"]]


def test_no_photos_give_no_candidates():
    scored = classify([member("a", 1)], np.array([], np.int64), 1)[ENSEMBLE]
    assert scored.candidates == []
    assert scored.new_score.shape == (0,)


def test_heads_for_different_labels_are_refused():
    with pytest.raises(FlukeprintError, match="members a and b have heads for different labels"):
        classify([member("a", 1), member("b", 2, labels=LABELS[::-1])], np.array([0]), 1)


def test_the_most_frequent_are_counted_in_photos():
    scored = most_frequent(gallery(["b", "a", "c", "b", NEW_WHALE, NEW_WHALE, NEW_WHALE, "a"]), 2)
    assert scored.candidates == [["a", "b", "c"]] * 2
    np.testing.assert_allclose(np.exp(scored.scores), [[2 / 8, 2 / 8, 1 / 8]] * 2, rtol=1e-6)
    np.testing.assert_allclose(np.exp(scored.new_score), [3 / 8] * 2, rtol=1e-6)
    assert np.isnan(most_frequent(gallery(["a", "b"]), 1).new_score).all()


def test_duplicates_give_the_labels_of_the_querys_cluster():
    photos = gallery(["b", "a", "b", NEW_WHALE, "a", NEW_WHALE], [7, 7, 7, 7, 8, 9])
    scored = near_duplicates(photos, [7, 8, 9, 10])
    assert scored.candidates == [["b", "a"], ["a"], [], []]
    assert [row.tolist() for row in scored.scores] == [[0.5, 0.25], [1.0], [], []]
    assert scored.new_score.tolist() == [0.25, 0.0, 1.0, 0.0]


@pytest.mark.numeric
@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_nearest_photo_is_the_largest_cosine_by_individual(seed):
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(30, 5)).astype(np.float32)
    photos = gallery([LABELS[index] for index in generator.integers(0, 7, 24)])
    scored = nearest_photo(embeddings, photos, np.arange(24, 30))
    for number, query in enumerate(embeddings[24:].astype(float)):
        best: Counter[str] = Counter()
        for label, other in zip(photos["Id"], embeddings[:24].astype(float), strict=True):
            cosine = query @ other / np.linalg.norm(query) / np.linalg.norm(other)
            best[label] = max(cosine, best.get(label, -2.0))
        new = best.pop(NEW_WHALE, float("nan"))
        assert scored.candidates[number] == [label for label, _ in best.most_common()]
        np.testing.assert_allclose(scored.scores[number], [value for _, value in best.most_common()], atol=1e-6)
        assert scored.new_score[number] == pytest.approx(new, abs=1e-6, nan_ok=True)


def test_an_embedding_of_zeros_is_similar_to_nothing():
    scored = nearest_photo(np.zeros((3, 4), np.float32), gallery(["b", "a"]), np.array([2]))
    assert scored.candidates == [["a", "b"]]
    assert scored.scores[0].tolist() == [0.0, 0.0]


def test_every_scorer_of_the_ladder_answers(tmp_path):
    members = [member("m1", 1), member("m2", 2)]
    photos = gallery([*LABELS[:3], "w_1"], [1, 2, 3, 3])
    asked = pd.DataFrame({"Image": ["x", "y"], "cluster": [3, 5], "pixel": [4, 5]})
    pretrained = np.random.default_rng(0).normal(size=(9, 1, 4)).astype(np.float32)
    scored = score_queries(asked, photos, pretrained, members, 1)
    assert list(scored) == scorer_names(["m1", "m2"])
    rows = pd.concat([candidate_rows(asked[["Image"]], name, answer) for name, answer in scored.items()])
    write_candidates(tmp_path / "rows.parquet", rows)
    read = read_candidates(tmp_path / "rows.parquet")
    assert read["scorer"].tolist() == [name for name in scored for _ in range(2)]
    assert [list(row) for row in read["candidates"]] == rows["candidates"].tolist()
    assert read["new_score"].dtype == np.float32
    assert all((np.diff(row) <= 0).all() for row in read["scores"])


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
