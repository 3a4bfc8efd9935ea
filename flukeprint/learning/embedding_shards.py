"""Embedding by a cluster: shards of photos go to its machines, whole batches each, so the bytes are one machine's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import create_npy, read_bytes
from flukeprint.core.ray_cluster import lay_out
from flukeprint.core.replacement import replacing
from flukeprint.core.runtime import open_accelerator, runtime_record
from flukeprint.core.worker_processes import spread_map
from flukeprint.learning.embedding import DistinctPhotos, embed_batches, embedding_job

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from flukeprint.core.params import RuntimeParams
    from flukeprint.core.ray_cluster import Cluster
    from flukeprint.data.pixel_shards import PixelShards
    from flukeprint.learning.records import BackboneRecord

# Of a shard: enough to outweigh building the network anew, few enough to keep all machines busy to the end.
_BATCHES = 8

Record = dict[str, str | int]  # of `runtime_record`


@dataclass(frozen=True)
class SavedNetwork:
    """A network in files, and what reads it from `path`."""

    load: Callable[[Path], tuple[nn.Module, BackboneRecord]]
    path: Path  # a file, or a folder of files

    def contents(self) -> dict[str, bytes]:
        """Return the files' bytes by their paths."""
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        return {str(file): read_bytes(file, "a network") for file in files}


def embed_on_cluster(
    wanted: Mapping[Path, tuple[PixelShards, int]],
    network: SavedNetwork,
    runtime: RuntimeParams,
    cluster: Cluster,
) -> Record:
    """Write what `embed_to_file` does of (photos, views) to each path, and return the workers' `runtime_record`.

    Workers that would round otherwise than one another are a FlukeprintError.
    """
    features = network.load(network.path)[1].features
    made: Record = {}
    with spread_map(cluster) as mapped:
        for path, (photos, views) in wanted.items():
            with replacing(path) as created:
                array = create_npy(created, np.float32, (len(photos), views, features))
                shards = partial(mapped, partial(_embed_shard, network, network.contents(), runtime, views))
                made |= _fill(array, photos, _BATCHES * runtime.batch_size, shards)
                array.flush()
    return made


def _fill(array: np.memmap, photos: PixelShards, size: int, embedded: Callable[..., Any]) -> Record:
    """Write the embeddings of photos into a file's array; those that are there several times are computed once."""
    distinct = DistinctPhotos.of(photos.keys)
    first = distinct.first
    starts = range(0, len(first), size)
    shards = embedded(photos[first[start : start + size]] for start in starts)
    made: Record = {}
    bar = tqdm(shards, f"embed {len(first)} of {len(photos)} photos", len(starts), unit="shard", disable=None)
    for start, (embeddings, record) in zip(starts, bar, strict=True):
        if made and record != made:
            raise FlukeprintError(
                f"machines of the cluster would round differently: {made} on one, {record} on another. Set "
                "runtime.device (and precision) in params.yaml to what all of them have."
            )
        made = record
        distinct.fill(array, start, embeddings)
    return made


def _embed_shard(
    network: SavedNetwork, files: Mapping[str, bytes], runtime: RuntimeParams, views: int, photos: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], Record]:
    """Embed a shard in a worker, whose current folder is its own."""
    lay_out(files)
    accelerator = open_accelerator(runtime)
    job = embedding_job(*network.load(network.path), runtime, accelerator)
    starts = range(0, len(photos), runtime.batch_size)
    with accelerator.autocast():
        parts = list(embed_batches(job, (photos[start : start + runtime.batch_size] for start in starts), views))
    return np.concatenate(parts), runtime_record(accelerator)
