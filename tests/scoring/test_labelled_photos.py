"""Labelled photos as a gallery, and queries beside them, whose similarities come by blocks."""

import numpy as np
import pandas as pd
import pytest

from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring import labelled_photos
from flukeprint.scoring.labelled_photos import ComparedQueries, LabelledPhotos

PHOTOS = 120
IDS = np.random.default_rng(1).choice(["a", "b", "c", NEW_WHALE], PHOTOS)
TABLE = pd.DataFrame({
    "Image": [f"{number:03}" for number in range(PHOTOS)],
    "Id": np.where(np.arange(PHOTOS) == 2, "nobody else", IDS),
    "split": np.array(["query", "train", "calibration", "valid"])[np.arange(PHOTOS) % 4],
    "pixel": np.random.default_rng(2).permutation(PHOTOS),
})  # fmt: skip
EMBEDDINGS = np.random.default_rng(3).normal(size=(PHOTOS, 1, 6)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_similarities_are_of_one_splits_queries_to_the_named_photos_that_were_trained_on(monkeypatch, block):
    monkeypatch.setattr(labelled_photos, "_BLOCK", block)
    compared = ComparedQueries.of(TABLE, [EMBEDDINGS], 1, "calibration")
    unit = EMBEDDINGS[:, 0] / np.linalg.norm(EMBEDDINGS[:, 0], axis=1, keepdims=True)
    asked = TABLE[TABLE["split"] == "calibration"]
    there = TABLE[TABLE["split"].isin(["train", "valid"]) & (TABLE["Id"] != NEW_WHALE)].sort_values(["Id", "Image"])
    rows, blocks = zip(*compared.similarities(np.arange(len(asked))), strict=True)
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(len(asked)))
    np.testing.assert_allclose(np.concatenate(blocks), unit[asked["pixel"]] @ unit[there["pixel"]].T, atol=1e-6)
    assert max(one.size for one in blocks) <= max(block, len(there))
    names = ["a", "b", "c"]
    assert compared.place.tolist() == [names.index(label) if label in names else -1 for label in asked["Id"]]
    centres = np.stack([unit[there["pixel"][there["Id"] == name]].mean(axis=0) for name in names])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    expected = unit[asked["pixel"].to_numpy()[:3]] @ centres.T
    np.testing.assert_allclose(compared.centre_similarities(np.arange(3)), expected, atol=1e-6)


def test_more_photos_than_are_compared_one_by_one_have_codes():
    named = int((TABLE["Id"] != NEW_WHALE).sum())
    exact, searched = (LabelledPhotos.of(TABLE, [EMBEDDINGS], 1, up_to) for up_to in (named, named - 1))
    assert exact.individuals.codes is None
    assert searched.individuals.codes is not None
    assert LabelledPhotos.of(TABLE, [EMBEDDINGS], 1).individuals.codes is None
    queries = exact.individuals.vectors[:20]
    first = [one.individuals.search(queries, 1).nearest[:, 0] for one in (exact, searched)]
    np.testing.assert_allclose(first[0], 1, atol=1e-6)
    assert (first[1] > 0.999).mean() > 0.9


def test_many_queries_of_many_photos_have_bounds(monkeypatch):
    """From so many similarities on; answers stay as they are."""
    named = int((TABLE["Id"] != NEW_WHALE).sum())
    monkeypatch.setattr(labelled_photos, "_COMPARED", 10 * named)
    few, many = (LabelledPhotos.of(TABLE, [EMBEDDINGS], 1, queries=queries) for queries in (10, 11))
    assert (few.individuals.bounds, few.new.bounds) == (None, None)
    assert many.individuals.bounds.rows.shape == (named, 2)
    assert many.new.bounds.rows.shape == (PHOTOS - named, 2)
    assert LabelledPhotos.of(TABLE, [EMBEDDINGS], 1, named - 1, 11).individuals.bounds is None  # codes are enough
    queries = few.individuals.vectors[:30]
    np.testing.assert_array_equal(few.nearest_new(queries), many.nearest_new(queries))
    found = [one.individuals.search(queries, 2) for one in (few, many)]
    np.testing.assert_array_equal(found[0].individual, found[1].individual)


def test_the_nearest_new_whale_is_the_most_similar_of_all_of_them():
    unit = EMBEDDINGS[:, 0] / np.linalg.norm(EMBEDDINGS[:, 0], axis=1, keepdims=True)
    new = unit[TABLE["pixel"][TABLE["Id"] == NEW_WHALE]]
    found = LabelledPhotos.of(TABLE, [EMBEDDINGS], 1).nearest_new(unit)
    np.testing.assert_allclose(found, (unit @ new.T).max(axis=1), atol=1e-6)
    assert found.shape == (PHOTOS,)
