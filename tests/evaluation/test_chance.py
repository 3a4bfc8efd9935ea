"""Scores do not leak: with permuted training labels nearest photos and heads do as well as guessing, and no better."""

import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from training_cases import training_params

from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import QUERY, TRAIN, VALID, class_labels
from flukeprint.learning.heads import HeadTraining, train_head
from flukeprint.learning.networks import new_head
from flukeprint.learning.training_data import training_data
from flukeprint.metrics.rankings import reciprocal_ranks
from flukeprint.retrieval.vectors import vectors_of
from flukeprint.scoring.calibrated_answers import as_ordinary_class
from flukeprint.scoring.candidates import Scored
from flukeprint.scoring.labelled_photos import LabelledPhotos
from flukeprint.scoring.scorers import Member, classify, nearest_photos

INDIVIDUALS, PHOTOS, FEATURES = 60, 5, 16
LOOP = training_params(lr=0.05, step_size=10, flip=0.0)


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    """Generated embeddings, N x 1 x D, in which the photos of one individual lie close together."""
    generator = np.random.default_rng(0)
    centres = np.repeat(generator.normal(size=(INDIVIDUALS, FEATURES)), PHOTOS, axis=0)
    return (centres + 0.3 * generator.normal(size=centres.shape)).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """One query, one validation photo and three training photos of each individual; the last is new_whale."""
    labels = np.repeat([*(f"w_{number:02}" for number in range(INDIVIDUALS - 1)), NEW_WHALE], PHOTOS)
    splits = [QUERY, VALID, TRAIN, TRAIN, TRAIN] * INDIVIDUALS
    names = [f"{number:03}.jpg" for number in range(len(labels))]
    return pd.DataFrame({"Image": names, "Id": labels, "split": splits, "pixel": range(len(labels))})


def permuted(table: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    """Shuffle the labels among the photos that are trained on."""
    table = table.copy()
    trained = table["split"].isin([TRAIN, VALID])
    table.loc[trained, "Id"] = np.random.default_rng(seed).permutation(table.loc[trained, "Id"].to_numpy())
    return table


def leaking(table: pd.DataFrame) -> pd.DataFrame:
    """Train, with permuted labels otherwise, on the queries themselves: the fault that the check must see."""
    queries = table[table["split"] == QUERY]
    return pd.concat([permuted(table), queries.assign(split=TRAIN)], ignore_index=True)


def nearest(embeddings: np.ndarray, table: pd.DataFrame, rows: np.ndarray) -> Scored:
    photos = LabelledPhotos.of(table[table["split"].isin([TRAIN, VALID])], [embeddings], 1)
    return nearest_photos(photos, vectors_of([embeddings], rows, 1))


def head(embeddings: np.ndarray, table: pd.DataFrame, rows: np.ndarray) -> Scored:
    labels = class_labels(table)
    training = HeadTraining("full_head", LOOP, 15, 0, Accelerator(cpu=True))
    result = train_head(training_data(embeddings, table, labels), "m1", training)
    linear = new_head(FEATURES, len(labels), 0)
    linear.load_state_dict(result.state)
    return classify([Member("m1", linear, labels, embeddings)], rows, 1)["m1"]


def exceeds_chance(scorer, embeddings: np.ndarray, trained: pd.DataFrame, queries: pd.DataFrame) -> bool:
    """Tell whether MAP@5 of known queries is outside what 2,000 permutations of their right answers give."""
    known = queries[(queries["split"] == QUERY) & (queries["Id"] != NEW_WHALE)]
    scored = scorer(embeddings, trained, known["pixel"].to_numpy())
    answers = as_ordinary_class(scored, 5).labels
    truth = known["Id"].to_numpy(dtype=str)
    points = np.array([reciprocal_ranks(np.roll(truth, shift), answers) for shift in range(len(truth))])
    generator = np.random.default_rng(0)
    # points[s, q]: query q scored with the answer of the query s places before it.
    orders = [generator.permutation(len(truth)) for _ in range(2000)]
    places = np.arange(len(truth))
    chance = [points[(places - order) % len(truth), places].mean() for order in orders]
    return bool(points[0].mean() > np.quantile(chance, 0.999))


@pytest.mark.parametrize("scorer", [nearest, head])
def test_permuted_labels_score_at_chance(scorer, embeddings, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not exceeds_chance(scorer, embeddings, permuted(table), table)


@pytest.mark.parametrize("scorer", [nearest, head])
@pytest.mark.parametrize("trained_on", [leaking, lambda table: table], ids=["queries", "right labels"])
def test_the_same_check_sees_a_leak(scorer, trained_on, embeddings, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exceeds_chance(scorer, embeddings, trained_on(table), table)
