from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pixel_folder import pixel_folder
from ray_here import ray_in_this_process
from training_cases import RUNTIME, random_backbone

from flukeprint.core.ray_cluster import Cluster
from flukeprint.core.runtime import open_accelerator, runtime_record
from flukeprint.learning import embedding_shards
from flukeprint.learning.embedding import embed_to_file, embedding_job
from flukeprint.learning.embedding_shards import SavedNetwork, embed_on_cluster


def load(size: tuple[int, int], path: Path):
    assert path.read_text() == "weights"  # which came with the shard
    return random_backbone(size=size)


@pytest.mark.numeric
def test_shards_have_the_bytes_of_one_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights").write_text("weights")
    photos = np.random.default_rng(0).integers(0, 255, (41, 3, 32, 32), dtype=np.uint8)
    photos[[5, 20]] = photos[30]
    pixels, none = pixel_folder(Path("photos"), photos), pixel_folder(Path("none"), photos[:0])
    runtime, network = (
        RUNTIME.model_copy(update={"batch_size": 8}),
        SavedNetwork(partial(load, (32, 32)), Path("weights")),
    )
    accelerator = open_accelerator(runtime)
    embed_to_file(Path("alone.npy"), pixels, 2, embedding_job(*network.load(network.path), runtime, accelerator))
    begun = ray_in_this_process(monkeypatch, tmp_path / "tmp")
    monkeypatch.setattr(embedding_shards, "_BATCHES", 2)
    made = embed_on_cluster(
        {Path("shards.npy"): (pixels, 2), Path("none.npy"): (none, 1)}, network, runtime, Cluster(None)
    )
    assert len(begun) == 3
    assert Path("shards.npy").read_bytes() == Path("alone.npy").read_bytes()
    assert np.load("none.npy").shape == (0, 1, 512)
    assert made == runtime_record(accelerator)
