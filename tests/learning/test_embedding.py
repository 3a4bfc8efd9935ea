from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pixel_folder import pixel_folder
from training_cases import embedding_job_of

from flukeprint.learning.embedding import DistinctPhotos, embed, embed_batches, embed_to_file


class Counting(torch.nn.Module):
    """A network D = 4 that counts the photos it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = 0

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        self.shown += len(photos)
        return photos.flatten(1)[:, :4].clone()


@given(st.lists(st.integers(0, 4), max_size=12))
def test_distinct_photos_are_those_that_differ_at_their_first_place(kinds):
    distinct = DistinctPhotos.of([str(kind) for kind in kinds])
    assert [kinds[row] for row in distinct.first] == list(dict.fromkeys(kinds))
    assert [kinds.index(kind) for kind in kinds] == distinct.first[distinct.which].tolist()
    # Some at a time, as they are embedded.
    numbers, array = np.arange(len(distinct.first), dtype=np.float32), np.full(len(kinds), -1, np.float32)
    for start in range(0, len(numbers), 2):
        distinct.fill(array, start, numbers[start : start + 2])
    assert array.tolist() == distinct.which.tolist()


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("views", [1, 2])
def test_a_repeated_photo_is_computed_once_and_gets_the_same_embedding(tmp_path, batch_size, views):
    generator = np.random.default_rng(0)
    photos = generator.integers(0, 255, (20, 3, 4, 4), dtype=np.uint8)[generator.integers(0, 20, 50)]
    shards = pixel_folder(tmp_path / "photos", photos)
    network = Counting()
    job = embedding_job_of(network, batch_size, 4)
    embed_to_file(tmp_path / "embeddings.npy", shards, views, job)
    assert network.shown == views * len(np.unique(photos, axis=0)) < views * len(photos)
    expected = embed(embedding_job_of(Counting(), 7, 4), photos, views)
    np.testing.assert_array_equal(np.load(tmp_path / "embeddings.npy"), expected)


@pytest.mark.parametrize(("device", "read"), [("cpu", [1, 2, 3, 4, 5]), ("cuda", [3, 4, 5, 5, 5])])
def test_a_gpu_is_given_two_batches_more_before_a_result_is_taken(device, read):
    """By a stand-in for the GPU: how many batches are read when each of five results comes, in their order."""
    photos = np.random.default_rng(0).integers(0, 255, (10, 3, 4, 4), dtype=np.uint8)
    job = embedding_job_of(Counting(), 2, 4)
    job = replace(job, accelerator=SimpleNamespace(device=SimpleNamespace(type=device)))
    given_so_far, found, parts = [], [], []

    def batches():
        for start in range(0, 10, 2):
            given_so_far.append(start)
            yield photos[start : start + 2]

    for part in embed_batches(job, batches(), 1):
        found.append(len(given_so_far))
        parts.append(part)
    assert found == read
    np.testing.assert_array_equal(np.concatenate(parts), embed(embedding_job_of(Counting(), 7, 4), photos, 1))
