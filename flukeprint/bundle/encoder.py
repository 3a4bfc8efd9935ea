"""Photos to unit vectors, as the pipeline makes them: the same decoding, resizing, scaling and networks.

A member is a function from pixels (uint8, N x 3 x H x W) and a number of views to embeddings (float32, N x views x D).
`torch_member` is that of a project after `dvc repro`; flukeprint/bundle/onnx_members.py has that of an exported bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of
from flukeprint.core.params import RuntimeParams
from flukeprint.core.safe_text import printable
from flukeprint.data.cropping import Crop, Cropper
from flukeprint.data.photos import MAX_PIXELS
from flukeprint.data.reading import ReadPhoto, ahead, read_batches
from flukeprint.retrieval.provenance import Provenance
from flukeprint.retrieval.vectors import photo_vectors

if TYPE_CHECKING:
    from flukeprint.learning.embedding import EmbeddingJob

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]
Member = Callable[[Pixels, int], Vectors]

# Photos per forward pass: larger ones are not faster on a CPU, and the first photos would wait longer.
BATCH_SIZE = 32
_NO_VECTORS = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Encoder:
    """Members, and what they want to see."""

    members: Sequence[Member]
    size: tuple[int, int]  # (height, width) of a photo in px
    views: int  # 1: the photo alone, 2: also its mirror image
    cropper: Cropper | None = None  # finds the fluke in a photo first
    at_once: int = 1  # batches to run side by side: the cores, where a network uses one core for a batch

    def __call__(self, pixels: Pixels) -> Vectors:
        """Return one unit vector per photo (flukeprint/retrieval/vectors.py)."""
        return photo_vectors([member(pixels, self.views) for member in self.members], self.views)


@dataclass(frozen=True)
class Encoded:
    """Photos that could be read, with their vectors (n x D), and those that could not."""

    photos: list[ReadPhoto]
    vectors: Vectors
    failed: list[ReadPhoto]

    def refuse_failed(self, refusal: str) -> None:
        """Raise a FlukeprintError that starts with `refusal` and names the photos that could not be read, if any."""
        if self.failed:
            faults = "; ".join(f"{printable(photo.path)}: {photo.record.fault}" for photo in self.failed)
            raise FlukeprintError(f"{refusal}, because photos cannot be read: {faults}. Leave them out.")


def encode_photos(
    encoder: Encoder,
    paths: Sequence[Path],
    workers: int,
    batch_size: int = BATCH_SIZE,
    max_pixels: int = MAX_PIXELS,
) -> Encoded:
    """Encode photos while the next are decoded; those that cannot be read are set apart, with their fault."""
    parts = list(encoded_batches(encoder, paths, workers, batch_size, max_pixels))
    return Encoded(
        [photo for part in parts for photo in part.photos],
        np.concatenate([part.vectors for part in parts if part.photos] or [_NO_VECTORS]),
        [photo for part in parts for photo in part.failed],
    )


def encoded_batches(
    encoder: Encoder,
    paths: Sequence[Path],
    workers: int,
    batch_size: int = BATCH_SIZE,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Encoded]:
    """Yield what `encode_photos` returns batch by batch, in the order given, while the next ones are worked on."""
    batches = read_batches(paths, encoder.size, batch_size, workers, max_pixels, encoder.cropper)
    with ThreadPoolExecutor(encoder.at_once) as pool:
        yield from counted(ahead(pool, partial(encoded, encoder), batches, encoder.at_once), len(paths))


def counted(parts: Iterable[Encoded], number: int) -> Iterator[Encoded]:
    """Yield batches, and show how many of all photos are done."""
    from tqdm import tqdm

    with tqdm(total=number, desc="photos", unit="photo", disable=None) as bar:
        for part in parts:
            yield part
            bar.update(len(part.photos) + len(part.failed))


def encoded(encoder: Encoder, batch: Sequence[ReadPhoto]) -> Encoded:
    """Encode photos that were read, in one batch."""
    pixels = [photo.pixels for photo in batch if photo.pixels is not None]
    photos = [ReadPhoto(photo.path, photo.record) for photo in batch]  # pixels are not kept
    return Encoded(
        [photo for photo in photos if photo.record.fault is None],
        encoder(np.stack(pixels)) if pixels else _NO_VECTORS,
        [photo for photo in photos if photo.record.fault is not None],
    )


def torch_encoder(
    weights: Sequence[Path],
    provenance: Provenance,
    runtime: RuntimeParams,
    crop: Crop | None = None,
    localiser: Path | None = None,
) -> Encoder:
    """Return the encoder of fine-tuned members (models/finetuned/*.safetensors), in the order given.

    With a `crop` photos are cropped by the `localiser` in that file.
    """
    from flukeprint.core.runtime import open_accelerator
    from flukeprint.learning.embedding import embedding_job
    from flukeprint.learning.network_files import load_finetuned

    accelerator = open_accelerator(runtime)
    jobs = [embedding_job(*load_finetuned(path), runtime, accelerator) for path in weights]
    height, width = provenance.size
    cropper = None if crop is None or localiser is None else torch_cropper(localiser, crop)
    return Encoder([_torch_member(job) for job in jobs], (height, width), provenance.views, cropper)


def torch_cropper(weights: Path, crop: Crop) -> Cropper:
    """Return what crops photos by a project's localiser; one that `crop` does not name is refused."""
    from flukeprint.learning.localiser import answers_of, load_localiser

    if sha256_of(weights) != crop.localiser:
        raise FlukeprintError(f"{weights} is not the localiser that photos were cropped with. Run `dvc repro`.")
    return Cropper(partial(answers_of, load_localiser(weights)[0]), crop)


def _torch_member(job: EmbeddingJob) -> Member:
    """Return a member that runs one network as the stage `embed` does."""
    from flukeprint.learning.embedding import embed_batch

    def embeddings(pixels: Pixels, views: int) -> Vectors:
        with job.accelerator.autocast():
            return embed_batch(job, pixels, views)

    return embeddings
