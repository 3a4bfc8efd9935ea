"""Photos to embeddings: every photo once per TTA view, frozen network, in batches."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import create_npy
from flukeprint.core.replacement import replacing
from flukeprint.learning.batches import PhotoScaler
from flukeprint.learning.networks import for_inference, freeze

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from torch import nn

    from flukeprint.core.params import RuntimeParams
    from flukeprint.learning.records import BackboneRecord


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
    network = for_inference(freeze(backbone), record.size).to(accelerator.device)
    scaler = PhotoScaler(record.mean, record.std, accelerator.device)
    return EmbeddingJob(network, scaler, record.features, runtime.batch_size, accelerator)


def embed_batch(job: EmbeddingJob, photos: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
    """Return float32 embeddings, n x views x D, of uint8 photos, n x 3 x H x W; TTA view 1 is the mirror image.

    One that is not finite, or so long that its length is not, is a FlukeprintError.
    """
    inputs = job.scaler(np.array(photos))
    with torch.inference_mode():
        embeddings = [job.backbone(inputs if view == 0 else inputs.flip(3)).float() for view in range(views)]
        array: NDArray[np.float32] = torch.stack(embeddings, dim=1).cpu().numpy()
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


def embed(job: EmbeddingJob, photos: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
    """Return what `embed_batch` gives of many photos, in single precision and in this process."""
    starts = tqdm(range(0, len(photos), job.batch_size), "embed the small set", unit="batch", disable=None)
    return np.concatenate([embed_batch(job, photos[start : start + job.batch_size], views) for start in starts])


def embed_to_file(path: Path, photos: NDArray[np.uint8], views: int, job: EmbeddingJob) -> None:
    """Write `embed`'s result to an .npy file, each process computing a part of the rows.

    A photo that is there several times, byte for byte, is computed once. Batches hold the same photos for any
    number of processes, so their number does not change the bytes.
    """
    from accelerate.utils import broadcast_object_list

    with replacing(path) if job.accelerator.is_main_process else nullcontext() as created:
        if created is not None:
            create_npy(created, np.float32, (len(photos), views, job.features)).flush()
        [name] = broadcast_object_list([created])  # which the main process alone knows
        _fill_together(np.lib.format.open_memmap(name, "r+"), photos, views, job)


def _fill_together(array: np.memmap, photos: NDArray[np.uint8], views: int, job: EmbeddingJob) -> None:
    """Write this process's batches into a file's array and wait for the others."""
    accelerator = job.accelerator
    first, which = distinct_photos(photos)
    order = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[order], np.arange(len(first) + 1))  # of the rows of the distinct photos before
    own = np.array_split(np.arange(0, len(first), job.batch_size), accelerator.num_processes)[accelerator.process_index]
    quiet = None if accelerator.is_main_process else True
    for start in tqdm(own, f"embed {len(first)} of {len(photos)} photos", unit="batch", disable=quiet):
        batch = first[start : start + job.batch_size]
        rows = order[ends[start] : ends[start + len(batch)]]
        with accelerator.autocast():
            array[rows] = embed_batch(job, photos[batch], views)[which[rows] - start]
    array.flush()
    accelerator.wait_for_everyone()


def distinct_photos(photos: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the photos that differ, at their first place, and for each of N photos which of them it is.

    Photos are told apart by a hash, one at a time: a memory map is not held in memory.
    """
    seen: dict[bytes, int] = {}
    digests = (blake2b(np.ascontiguousarray(photo).data, digest_size=16).digest() for photo in photos)
    which = np.fromiter((seen.setdefault(digest, len(seen)) for digest in digests), np.int64, len(photos))
    return np.unique(which, return_index=True)[1], which
