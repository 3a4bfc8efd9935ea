"""Photos encoded by a cluster's workers: the records, paths and vectors that this machine makes of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalogue_model import fake_model, whale
from ray_here import ray_in_this_process

from flukeprint.bundle.encoder import Encoded
from flukeprint.core import ray_cluster
from flukeprint.core.ray_cluster import Cluster, ray_map

FOLDERS: list[Path] = []  # in which batches were embedded


def embeddings(pixels: np.ndarray, views: int) -> np.ndarray:
    FOLDERS.append(Path.cwd())
    return pixels.reshape(len(pixels), 1, -1)[..., :99].astype(np.float32)


def model():
    encoder = replace(fake_model().encoder, members=[embeddings])
    return replace(fake_model(), load_encoder=lambda: encoder)


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """Photos of three batches: names that are there twice, broken and linked ones; in the second one is missing."""
    paths = [tmp_path / "photos" / str(number % 2) / f"{number // 2}.jpg" for number in range(70)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        whale(number, number, (24, 16)).save(path)
    paths[3].write_bytes(paths[1].read_bytes()[:200])
    paths[5].unlink()
    paths[5].symlink_to(paths[1].name)
    paths[40].unlink()
    return paths


def told(parts: list[Encoded]) -> list[tuple]:
    return [(part.photos, part.failed, part.vectors.tobytes()) for part in parts]


def test_shards_are_what_this_machine_makes_and_what_no_other_can_read_is_read_here(photos, tmp_path, monkeypatch):
    alone = list(model().encode_batches(photos))
    begun = ray_in_this_process(monkeypatch, tmp_path / "tmp")
    FOLDERS.clear()
    with ray_map(Cluster("auto", option="--ray")) as machines:
        spread = list(replace(model(), machines=machines).encode_batches(photos))
    assert told(spread) == told(alone)
    assert [photo.path for part in spread for photo in part.failed] == [photos[3], photos[40]]
    assert len(begun) == 3
    assert (len(FOLDERS), FOLDERS.count(Path.cwd())) == (3, 1)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_batch_that_would_fill_the_memory_is_read_here(photos, tmp_path, monkeypatch):
    ray_in_this_process(monkeypatch, tmp_path / "tmp")
    monkeypatch.setattr(ray_cluster, "_MOST_BYTES", 1000)
    FOLDERS.clear()
    with ray_map(Cluster("auto", option="--ray")) as machines:
        [part] = replace(model(), machines=machines).encode_batches(photos[:3])
    assert [photo.path for photo in part.photos] == photos[:3]
    assert len(FOLDERS) == FOLDERS.count(Path.cwd()) == 1
