"""Photos to embeddings: every photo once per TTA view, frozen network, in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import create_npy
from flukeprint.core.replacement import replacing
from flukeprint.learning.batches import PhotoScaler, on_device
from flukeprint.learning.depthwise import fast_depthwise
from flukeprint.learning.networks import for_inference, freeze
from flukeprint.learning.synchronization import gathered

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from torch import nn

    from flukeprint.core.params import RuntimeParams
    from flukeprint.data.pixel_shards import PixelShards
    from flukeprint.learning.records import BackboneRecord
    from flukeprint.learning.rows import RowArray

# Batches that a GPU has been given beyond the one whose result is waited for.
_AHEAD = 2


@dataclass(frozen=True)
class EmbeddingJob:
    """A frozen network, what scales its inputs, and the machine's limits."""

    backbone: nn.Module
    scaler: PhotoScaler
    features: int
    batch_size: int
    accelerator: Accelerator


def embedding_job(
    backbone: nn.Module, record: BackboneRecord, runtime: RuntimeParams, accelerator: Accelerator
) -> EmbeddingJob:
    """Freeze a backbone and move it to the device, with the scaling that its record names."""
    network = fast_depthwise(for_inference(freeze(backbone), record.size).to(accelerator.device), accelerator)
    scaler = PhotoScaler(record.mean, record.std, accelerator.device)
    return EmbeddingJob(network, scaler, record.features, runtime.batch_size, accelerator)


def embed_batch(job: EmbeddingJob, photos: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
    """Return float32 embeddings, n x views x D, of uint8 photos, n x 3 x H x W; TTA view 1 is the mirror image.

    One that is not finite, or so long that its length is not, is a FlukeprintError.
    """
    return _Computation(job, photos, views).result()


def embed_batches(job: EmbeddingJob, batches: Iterable[NDArray[np.uint8]], views: int) -> Iterator[NDArray[np.float32]]:
    """Yield what `embed_batch` gives of each of many batches; while a GPU computes, the next ones are read."""
    ahead: deque[_Computation] = deque()
    most = _AHEAD if job.accelerator.device.type == "cuda" else 0
    for photos in batches:
        ahead.append(_Computation(job, photos, views))
        if len(ahead) > most:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


class _Computation:
    """A batch under way: a GPU is given its work, and is not waited for before the result is asked for."""

    def __init__(self, job: EmbeddingJob, photos: NDArray[np.uint8], views: int) -> None:
        inputs = job.scaler(on_device(np.require(photos, requirements=["C", "W"]), job.scaler.device))
        with torch.inference_mode():
            embeddings = [job.backbone(inputs if view == 0 else inputs.flip(3)).float() for view in range(views)]
            self._embeddings = torch.stack(embeddings, dim=1).to("cpu", non_blocking=True)
        self._done = None
        if inputs.device.type == "cuda":
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def result(self) -> NDArray[np.float32]:
        """Return the embeddings, n x views x D."""
        if self._done is not None:
            self._done.synchronize()
        array: NDArray[np.float32] = self._embeddings.numpy()
        _refuse_endless(array)
        return array


def _refuse_endless(embeddings: NDArray[np.float32]) -> None:
    """Refuse embeddings whose squares do not add up in single precision: every later stage divides by the length."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.einsum("nvd,nvd->nv", embeddings, embeddings)
    if endless := int((~np.isfinite(lengths)).any(axis=1).sum()):
        raise FlukeprintError(
            f"the network gives {endless} of {len(embeddings)} photos an embedding that is not finite, or too long for "
            "single precision: its weights, or the scaling of its inputs (backbone.mean and backbone.std), are "
            "unusable. Lower finetune.lr and train again, or give other pretrained weights (backbone.weights)."
        )


def embed(job: EmbeddingJob, photos: RowArray, views: int) -> NDArray[np.float32]:
    """Return what `embed_batch` gives of many photos, in single precision and in this process."""
    starts = tqdm(range(0, len(photos), job.batch_size), "embed the small set", unit="batch", disable=None)
    batches = (photos[start : start + job.batch_size] for start in starts)
    return np.concatenate(list(embed_batches(job, batches, views)))


def embed_to_file(path: Path, photos: PixelShards, views: int, job: EmbeddingJob) -> None:
    """Write `embed`'s result to an .npy file, each process computing a part of the rows.

    A photo that is there several times, byte for byte, is computed once. Batches hold the same photos for any
    number of processes, so their number does not change the bytes.
    """
    distinct = DistinctPhotos.of(photos.keys)
    batches = _batches(photos, distinct.first, views, job)
    if not job.accelerator.is_main_process:
        deque(batches, 0)  # which the first process writes: others may have a disk of their own
        return
    with replacing(path) as created:
        array = create_npy(created, np.float32, (len(photos), views, job.features))
        for start, batch in batches:
            distinct.fill(array, start, batch)
        array.flush()


def _batches(
    photos: PixelShards, rows: NDArray[np.int64], views: int, job: EmbeddingJob
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Embed the photos of some rows, a batch in each process at a time; yield in the first one all, with their starts.

    The other processes have to ask for all of them too, and get nothing.
    """
    rank, number = job.accelerator.process_index, job.accelerator.num_processes
    starts = range(0, len(rows), job.batch_size)
    quiet = None if job.accelerator.is_main_process else True
    title = f"embed {len(rows)} of {len(photos)} photos"
    own = embed_batches(job, (photos[rows[start : start + job.batch_size]] for start in starts[rank::number]), views)
    for n in tqdm(range(0, len(starts), number), title, unit="batch", disable=quiet):
        with job.accelerator.autocast():
            next_one = list(islice(own, 1))
        for start, [batch] in zip(starts[n : n + number], gathered(next_one, job.accelerator), strict=False):
            yield start, batch


@dataclass(frozen=True)
class DistinctPhotos:
    """The photos of N that differ: their rows, at the first place of each, and for all N which of them it is."""

    first: NDArray[np.int64]
    which: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Sequence[str]) -> DistinctPhotos:
        """Tell photos apart by the checksums of their pixels."""
        seen: dict[str, int] = {}
        which = np.fromiter((seen.setdefault(key, len(seen)) for key in keys), np.int64, len(keys))
        return cls(np.unique(which, return_index=True)[1], which)

    def fill(self, array: NDArray[np.float32], start: int, embeddings: NDArray[np.float32]) -> None:
        """Write the embeddings of some that differ, from number `start` on, to all their rows of an array."""
        bounds = np.searchsorted(self.which, [start, start + len(embeddings)], sorter=self._order)
        rows = self._order[slice(*bounds)]
        array[rows] = embeddings[self.which[rows] - start]

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.which, kind="stable")
