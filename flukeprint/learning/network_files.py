"""The files of networks: the pretrained backbone, a member's fine-tuned one, and its heads."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from flukeprint.core.files import read_json, read_safetensors, reading, sha256_of, write_json, write_safetensors
from flukeprint.core.replacement import replacing_folder
from flukeprint.learning.backbones import build_backbone, family_of
from flukeprint.learning.batchnorm_folding import fold_batchnorm
from flukeprint.learning.embedding_head import Embedder, EmbedderSpec
from flukeprint.learning.networks import embedding_size, has_folded_batchnorm, parts_of, refuse_constant
from flukeprint.learning.pretrained_weights import load_weights
from flukeprint.learning.records import BackboneRecord
from flukeprint.learning.resizing import Resized

if TYPE_CHECKING:
    from flukeprint.core.params import BackboneParams
    from flukeprint.learning.training import Result

WEIGHTS, RECORD = "weights.safetensors", "backbone.json"


def prepare_backbone(
    folder: Path, wanted: BackboneParams, size: tuple[int, int], seed: int, own_size: tuple[int, int] | None = None
) -> None:
    """Write what `pretrained_backbone` gives, with its record, in place of what `folder` is.

    `size` is that of the photos; with an `own_size` the network is one for that, to which they will be resized.
    """
    network, record = pretrained_backbone(wanted, own_size or size, seed)
    if own_size is not None and own_size != size:
        record = replace(record, size=size, own_size=own_size)
    with replacing_folder(folder) as temporary:
        write_safetensors(temporary / WEIGHTS, network.state_dict())
        if not record.sha256:
            record = replace(record, sha256=sha256_of(temporary / WEIGHTS))
        write_json(temporary / RECORD, record.to_json())


def pretrained_backbone(wanted: BackboneParams, size: tuple[int, int], seed: int) -> tuple[nn.Module, BackboneRecord]:
    """Build a backbone for photos of (height, width) px and fill its weights; without a file, they have no checksum.

    A FlukeprintError names an unknown network, weights that are missing or of another one, a size it cannot take, and
    a scaling of inputs or weights by which photos cannot be told apart.
    """
    published = family_of(wanted.name).published(wanted.name)
    network, last_layer = build_backbone(wanted.name, size, seed, published.options)
    load_weights(network, wanted.weights, wanted.name, last_layer, size)
    features = embedding_size(network, size, wanted.name)
    mean = published.mean if wanted.mean == "auto" else tuple(wanted.mean)
    std = published.std if wanted.std == "auto" else tuple(wanted.std)
    refuse_constant(network, size, mean, std)
    # Weights that come folded would be destroyed by normalising with the statistics of a batch.
    folded = wanted.batchnorm == "frozen" or (wanted.weights != "random" and has_folded_batchnorm(network))
    if folded:
        fold_batchnorm(network, size)
    source = Path(wanted.weights)
    return network, BackboneRecord(
        name=wanted.name,
        weights=wanted.weights,
        sha256=sha256_of(source) if source.is_file() else "",
        mean=mean,
        std=std,
        size=size,
        features=features,
        last_layer=last_layer,
        folded_batchnorm=folded,
        options=published.options,
    )


def load_backbone(folder: Path) -> tuple[nn.Module, BackboneRecord]:
    """Return the pretrained backbone (N x 3 x H x W -> N x D, H x W being the record's `seen_size`) and its record."""
    content = read_json(folder / RECORD)
    with reading(folder / RECORD, "the record of a backbone"):
        record = BackboneRecord.from_json(content)
    network = built(record)
    state, _ = read_safetensors(folder / WEIGHTS)
    with reading(folder / WEIGHTS, f"the weights of a {record.name}"):
        network.load_state_dict(state)
    return network, record


def built(record: BackboneRecord) -> nn.Module:
    """Return a backbone as its record says, with random weights."""
    network, _ = build_backbone(record.name, record.seen_size, 0, record.options)
    return fold_batchnorm(network, record.seen_size).train() if record.folded_batchnorm else network


def save_finetuned(
    path: Path, result: Result, record: BackboneRecord, labels: list[str], embedder: EmbedderSpec | None = None
) -> None:
    """Write a fine-tuned network, its record, its labels, and how its embedding head is built.

    Tensors are `backbone.*` and `head.*` of a classifier; `embedder.*` and the loss's `loss.*` of an embedding.
    """
    metadata = {"backbone": record.to_json(), "embedder": embedder and asdict(embedder), "labels": labels}
    write_safetensors(path, result.state, metadata)


def save_plain(path: Path, folder: Path) -> None:
    """Write the backbone that is in `folder` in the form of a fine-tuned network, though nobody fine-tuned it.

    Of a file of weights only the name is kept, so that the same weights are the same bytes wherever they lay.
    """
    network, record = load_backbone(folder)
    state = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    kept = replace(record, weights=Path(record.weights).name).to_json() | {"options": dict(record.options)}
    write_safetensors(path, state, {"backbone": kept, "embedder": None, "labels": []})


def load_finetuned(path: Path) -> tuple[nn.Module, BackboneRecord]:
    """Return a member's fine-tuned network (N x 3 x H x W -> N x D), without its small head or loss, and the record.

    H x W is the record's `size`: where the network has one of its own, it resizes photos itself.
    """
    state, metadata = read_safetensors(path)
    with reading(path, "a fine-tuned member"):
        record = BackboneRecord.from_json(metadata["backbone"])
        network = built(record)
        if metadata["embedder"] is None:
            network.load_state_dict(parts_of(state)["backbone"])
            return _resizing(network, record), record
        embedder = Embedder(network, EmbedderSpec(**metadata["embedder"]), record)
        embedder.load_state_dict(parts_of(state)["embedder"])
        return _resizing(embedder, record), replace(record, features=embedder.features)


def _resizing(network: nn.Module, record: BackboneRecord) -> nn.Module:
    return network if record.own_size is None else Resized(network, record.size, record.own_size)


def save_head(path: Path, result: Result, labels: list[str]) -> None:
    """Write a head as safetensors: weight (classes x D), bias (classes), and its labels in the metadata."""
    write_safetensors(path, result.state, {"labels": labels})


def load_head(path: Path) -> tuple[nn.Linear, list[str]]:
    """Read a head and its class labels."""
    state, metadata = read_safetensors(path)
    with reading(path, "a head"):
        classes, features = state["weight"].shape
        head = nn.Linear(features, classes)
        head.load_state_dict(state)
        return head, metadata["labels"]
