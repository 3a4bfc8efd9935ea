"""Members as ONNX: uint8 photos in, embeddings out, scaling included; and how they run."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flukeprint.bundle.bundle_manifest import REPAIR
from flukeprint.bundle.encoder import Member
from flukeprint.bundle.onnx_trial import INPUT, OUTPUT, fault_of, session_of
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_bytes, reading
from flukeprint.core.replacement import replacing
from flukeprint.data.cropping import Crop, Cropper
from flukeprint.data.fluke_boxes import DIGITS

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto
    from torch import Tensor, nn

# ONNX operators as of December 2022: old enough for any runtime at hand, new enough for every torchvision classifier.
OPSET = 18
# Largest difference of an embedding from torch's, as a share of the largest component (absolute, if that is below 1).
TOLERANCE = 1e-4
# The operators of every family of torchvision's classifiers and of our embedding head, as exported. None of them holds
# another graph, as those that repeat do.
OPERATORS = {
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "ConstantOfShape", "Conv", "Div",
    "Einsum", "Equal", "Erf", "Exp", "Expand", "Gather", "GatherND", "Gemm", "HardSigmoid", "HardSwish", "Identity",
    "LayerNormalization", "Log", "MatMul", "MaxPool", "Mul", "Not", "Pad", "Pow", "Range", "ReduceL2", "ReduceMean",
    "Relu", "Reshape", "ScatterND", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Tanh",
    "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def export_onnx(weights: Path, target: Path) -> None:
    """Write a fine-tuned member (models/finetuned/<member>.safetensors) as ONNX; refuse one that differs there.

    Input `photos`: uint8, N x 3 x H x W, RGB; output `embedding`: float32, N x D.
    """
    from flukeprint.learning.network_files import load_finetuned
    from flukeprint.learning.networks import for_inference, freeze

    backbone, record = load_finetuned(weights)
    network = _scaled(for_inference(freeze(backbone), record.size), record.mean, record.std)
    _export(weights, record.name, network, record.size, target)


def _export(weights: Path, name: str, network: nn.Module, size: tuple[int, int], target: Path) -> None:
    """Write a network for uint8 photos of `size` as ONNX, and compare what both compute."""
    import torch

    photos = torch.randint(0, 256, (3, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    try:
        model = _converted(network, photos)
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise FlukeprintError(
            f"{weights} ({name}) cannot be written as ONNX: {str(error).splitlines()[0]}. "
            "Choose another backbone to export a bundle."
        ) from None
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
        _compare(weights, network, onnx_member(temporary, size), photos)


def export_localiser(weights: Path, target: Path) -> None:
    """Write a localiser (models/localiser/localiser.safetensors) as ONNX; refuse one that differs there.

    Input `photos`: uint8, N x 3 x H x W, RGB; output `embedding`: float32, N x 6 (flukeprint/learning/localiser.py).
    """
    from flukeprint.learning.localiser import load_localiser

    network, record = load_localiser(weights)
    _export(weights, record.name, network, record.size, target)


def _scaled(backbone: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    """Return the network with learning.batches.PhotoScaler in front of it."""
    import torch

    class Scaled(torch.nn.Module):
        """uint8 photos to embeddings."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone
            # Buffers, which become constants of the graph.
            self.mean = torch.nn.Buffer(255 * torch.tensor(mean).view(1, 3, 1, 1))
            self.std = torch.nn.Buffer(255 * torch.tensor(std).view(1, 3, 1, 1))

        def forward(self, photos: torch.Tensor) -> torch.Tensor:
            embedding: torch.Tensor = self.backbone((photos.to(torch.float32) - self.mean) / self.std)
            return embedding

    return Scaled().eval()


def _converted(network: nn.Module, photos: Tensor) -> ModelProto:
    """Return a network as ONNX, for any number of photos."""
    import torch

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the exporter's remarks about its own code
    with warnings.catch_warnings(action="ignore"), contextlib.ExitStack() as after:
        after.callback(logging.disable, before)
        program = torch.onnx.export(
            network, (photos,), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("n")},),
        )  # fmt: skip
    assert program is not None  # noqa: S101 - it is, where dynamo is on
    model = program.model_proto  # made anew each time
    # What the exporter notes of its source names this machine's folders, and differs from run to run.
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    return model


def _compare(weights: Path, network: nn.Module, member: Member, photos: Tensor) -> None:
    """Refuse an export that computes something else, for one photo or for several."""
    import torch

    with torch.inference_mode():
        expected = network(photos).numpy()
    for number in (1, len(photos)):
        difference = float(np.abs(member(photos[:number].numpy(), 1)[:, 0] - expected[:number]).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise FlukeprintError(
                f"{weights} as ONNX computes embeddings that differ from torch's by {difference:.2g}, expected at most "
                f"{TOLERANCE:g}. Choose another backbone to export a bundle."
            )


def onnx_member(path: Path, size: tuple[int, int]) -> Member:
    """Return the member that an ONNX file computes (see flukeprint/bundle/encoder.py), after trying it on photos.

    `size` is (height, width) of photos in px. Refused: what is no ONNX that our exporter could have written, what takes
    far more memory or time than its size explains, and what does not give one finite vector for each photo.
    """
    import onnxruntime  # noqa: F401 - where it cannot be, the trial would take that for the network's fault

    kind = f"an ONNX network for photos of {size[0]} x {size[1]} px"
    content = read_bytes(path, kind, REPAIR)
    with reading(path, kind, REPAIR):
        _refuse_foreign(content)
        if fault := fault_of(path, size):
            raise ValueError(fault)
        return partial(_embeddings, OnnxNetwork(content, path))


class OnnxNetwork:
    """A network that onnxruntime runs. Pickled it is its file's bytes; a process that gets them makes it but once."""

    def __init__(self, content: bytes, path: Path | None = None) -> None:
        self._path, self._stamp, self._session = path, path and _stamp(path), session_of(content)

    def run(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return one vector per photo (N x 3 x H x W)."""
        vectors: NDArray[np.float32] = self._session.run(None, {INPUT: photos})[0]
        return vectors

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path is None:
            raise TypeError("a network that came from another process is not sent on")
        content = read_bytes(self._path, "an ONNX network", REPAIR)
        if _stamp(self._path) != self._stamp:
            raise FlukeprintError(f"{self._path} was changed after it was opened. Run the command again.")
        return _made_once, (sha256(content).hexdigest(), content)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from one that took its place."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


# Of a process that gets networks with every task, by the SHA-256 of their bytes.
_MADE: dict[str, OnnxNetwork] = {}


def _made_once(digest: str, content: bytes) -> OnnxNetwork:
    if digest not in _MADE:
        _MADE[digest] = OnnxNetwork(content)
    return _MADE[digest]


def onnx_cropper(path: Path, crop: Crop) -> Cropper:
    """Return what crops photos by the localiser that an ONNX file holds, tried as a member is."""
    height, width = crop.size
    answers = onnx_member(path, (height, width))
    trial = answers(np.zeros((1, 3, height, width), np.uint8), 1)
    if trial.shape != (1, 1, 6):
        raise FlukeprintError(f"{path} gives {trial.shape[2]} numbers for a photo, expected a localiser's 6. {REPAIR}")
    return Cropper(partial(_rounded, answers), crop)


def _rounded(answers: Member, photos: NDArray[np.uint8]) -> NDArray[np.float64]:
    return answers(photos, 1)[:, 0].astype(np.float64).round(DIGITS)


def _embeddings(network: OnnxNetwork, pixels: NDArray[np.uint8], views: int) -> NDArray[np.float32]:
    seen = [pixels, np.ascontiguousarray(pixels[..., ::-1])][:views]
    return np.stack([network.run(view) for view in seen], axis=1)


def _refuse_foreign(content: bytes) -> None:
    """Refuse what our exporter does not write: other operators, graphs in graphs, and weights in another file."""
    import onnx

    model = onnx.load_model_from_string(content)
    others = {f"{node.domain}:{node.op_type}" if node.domain else node.op_type for node in model.graph.node} - OPERATORS
    others |= {name for name in ("functions", "training_info") if len(getattr(model, name))}
    others |= {"sparse_initializer"} if model.graph.sparse_initializer else set()
    if others:
        raise ValueError(f"it holds {', '.join(sorted(others))}, which `flukeprint export` never writes")
    # onnxruntime would read whatever file the content names.
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise ValueError("it names another file for its weights, which is never read")


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Yield every tensor that a message holds, at any depth."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                yield from _tensors(part)
