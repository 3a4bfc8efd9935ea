"""Training a localiser on marked boxes: made examples of every kind, the losses, and the figures on boxes held out.

A table of boxes shows flukes, most of them upright. The other answers are learned from made examples: a photo turned by
180 degrees stands upside down; a strip beside the box, stretched, shows no fluke, as does a photo whose row is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torchvision import ops

from flukeprint.core.runtime import derived_seed
from flukeprint.core.training_params import AugmentationParams, ScheduleParams, TrainingParams
from flukeprint.learning.augmentation import Draws, affine_maps, augment, warped
from flukeprint.learning.batches import Batch, PhotoScaler, batch_shape, epoch_order, on_device
from flukeprint.learning.checkpoints import checkpoint_folder
from flukeprint.learning.divergence import LossBounds
from flukeprint.learning.localiser import Answering, Localiser, answers_of
from flukeprint.learning.network_files import pretrained_backbone
from flukeprint.learning.records import BackboneRecord
from flukeprint.learning.training import Job, Result, fit
from flukeprint.metrics.boxes import box_iou

if TYPE_CHECKING:
    from accelerate import Accelerator

    from flukeprint.core.params import LocalizeParams

Boxes = NDArray[np.float64]  # N x 4; NaN: no fluke
Part = tuple[float, float, float, float]

STAGE = "localize"
# Most of each change of an example; a box stays that of the fluke.
_WARP = AugmentationParams(rotate=8.0, zoom=0.25, shear=0.1, shift=0.12, contrast=0, brightness=0, grey=0, erase=0)
_LOOK = AugmentationParams(rotate=0, zoom=0, shear=0, shift=0, contrast=0.3, brightness=0.3, grey=0.3, erase=0.2)
# Shares of the examples that are turned by 180 degrees, and that show the photo beside its fluke.
_TURNED, _BESIDE = 0.25, 0.15
# Of a side: a narrower strip beside the fluke is mostly the fluke's own edge.
_NARROWEST = 0.12
# Of the losses: overlap counts twice as much as a yes or no, places within a twentieth of a side are about right.
_OVERLAP, _PLACE, _NEAR = 2.0, 4.0, 0.05
# Overlaps (IoU) whose shares are reported; the second also counts as right in training.
_OVERLAPS = (0.5, 0.75)


@dataclass(frozen=True)
class BoxBatch(Batch):
    """Examples with their boxes (n x 4) and whether they are turned; targets: 1 with a fluke, 0 without."""

    boxes: torch.Tensor
    turned: torch.Tensor


def box_step(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of the losses of a batch, and how many examples are answered right.

    Right is no fluke where there is none, or a box that overlaps the marked one by three quarters (IoU).
    """
    wanted, answers = cast("BoxBatch", batch), model(batch.inputs).float()
    there = wanted.targets == 1
    boxes, marked, turned = answers[there, :4], wanted.boxes[there], wanted.turned[there]
    loss = (
        _yes_or_no(answers[:, 4], there)
        + _yes_or_no(answers[there, 5], turned)
        + _OVERLAP * ops.generalized_box_iou_loss(boxes, marked, reduction="sum")
        + _PLACE * functional.smooth_l1_loss(boxes, marked, reduction="sum", beta=_NEAR)
    )
    overlap = torch.diagonal(ops.box_iou(boxes.detach(), marked))
    right = (answers[~there, 4] <= 0).sum() + ((answers[there, 4] > 0) & (overlap >= _OVERLAPS[1])).sum()
    return loss, right


def _yes_or_no(logits: torch.Tensor, yes: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, yes.float(), reduction="sum")


def example_maps(boxes: Boxes, draws: Draws, aspect: float) -> tuple[NDArray[np.float32], Boxes, NDArray[np.bool_]]:
    """Draw for each photo the map from an example's coordinates to the photo's (-1..1 from edge to edge), n x 2 x 3.

    Return the maps, the boxes in the examples, and which of them are turned.
    """
    maps = affine_maps(_WARP, draws, aspect)
    mirrored, turned, beside, choice = draws.chosen(0.5), draws.chosen(_TURNED), draws.chosen(_BESIDE), draws.even(0, 1)
    upside = np.where(turned, -1, 1).astype(np.float32)
    maps[:, :, 0] *= (upside * np.where(mirrored, -1, 1))[:, None]
    maps[:, :, 1] *= upside[:, None]
    moved = moved_boxes(boxes, maps)
    for row in np.flatnonzero(beside & ~np.isnan(boxes[:, 0])):
        if strips := strips_beside(boxes[row]):
            maps[row] = map_onto(strips[int(choice[row] * len(strips))])
            moved[row] = np.nan
    return maps, moved, turned & ~np.isnan(moved[:, 0])


def moved_boxes(boxes: Boxes, maps: NDArray[np.float32]) -> Boxes:
    """Return boxes of photos as they are in what maps (result to photo) show, cut at the border.

    A fluke fills its box like an ellipse rather than to the corners: the box of the turned ellipse is its new box.
    """
    centre, half = boxes[:, :2] + boxes[:, 2:] - 1, boxes[:, 2:] - boxes[:, :2]  # -1..1
    to_result = np.linalg.inv(maps[:, :, :2].astype(np.float64))
    middle = np.einsum("nij,nj->ni", to_result, centre - maps[:, :, 2])
    reach = np.sqrt(np.einsum("nij,nj->ni", to_result**2, half**2))
    return np.clip((np.concatenate([middle - reach, middle + reach], axis=1) + 1) / 2, 0, 1)


def strips_beside(box: NDArray[np.float64]) -> list[Part]:
    """Return the parts of a photo above, below, left and right of a box that are wide enough to show something."""
    x0, y0, x1, y1 = box.tolist()
    strips = [(0.0, 0.0, 1.0, y0), (0.0, y1, 1.0, 1.0), (0.0, 0.0, x0, 1.0), (x1, 0.0, 1.0, 1.0)]
    return [one for one in strips if min(one[2] - one[0], one[3] - one[1]) >= _NARROWEST]


def map_onto(part: Part) -> NDArray[np.float32]:
    """Return the map of a result that shows a part of a photo, stretched: 2 x 3."""
    x0, y0, x1, y1 = part
    return np.array([[x1 - x0, 0, x0 + x1 - 1], [0, y1 - y0, y0 + y1 - 1]], np.float32)


@dataclass(frozen=True)
class BoxExamples:
    """Photos with marked boxes as batches of made examples; everything random follows from (seed, epoch)."""

    photos: NDArray[np.uint8]  # N x 3 x H x W
    boxes: Boxes
    scaler: PhotoScaler
    batch_size: int
    seed: int

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return batch_shape(len(self.boxes), self.batch_size)[0]

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for index, (rows, _) in enumerate(epoch_order(len(self.boxes), self.batch_size, 0.0, self.seed, number)):
            generator = np.random.default_rng(derived_seed(self.seed, "examples", number, index))
            yield self._batch(rows, Draws(generator, len(rows)))

    def _batch(self, rows: NDArray[np.int64], draws: Draws) -> BoxBatch:
        maps, boxes, turned = example_maps(self.boxes[rows], draws, self.photos.shape[2] / self.photos.shape[3])
        device = self.scaler.device
        photos = on_device(np.array(self.photos[rows]), device)
        inputs = augment(warped(self.scaler(photos), maps), _LOOK, draws)
        there = (~np.isnan(boxes[:, 0])).astype(np.int64)
        targets, marked, upside = (
            on_device(one, device) for one in (there, np.nan_to_num(boxes).astype(np.float32), turned)
        )
        return BoxBatch(inputs, targets, len(rows), marked, upside)


def starting_localiser(params: LocalizeParams, seed: int) -> tuple[Localiser, BackboneRecord]:
    """Build the localiser of params, its backbone pretrained, and return it with the backbone's record."""
    wanted, (height, width) = params.backbone, params.size
    backbone, record = pretrained_backbone(wanted, (height, width), seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, STAGE, "head"))
        return Localiser(backbone, record), record


def train_localiser(
    localiser: Localiser,
    record: BackboneRecord,
    photos: NDArray[np.uint8],
    boxes: Boxes,
    params: LocalizeParams,
    seed: int,
    accelerator: Accelerator,
) -> Result:
    """Train a localiser, in place, on photos (uint8, N x 3 x H x W of its size) with marked boxes."""
    seed, training = derived_seed(seed, STAGE), _training(params)
    schedule = ScheduleParams(
        shape="cosine",
        warm_up=0.1,
        head_lr=params.head_lr,
        max_gradient=None,
        ema=0,
        first_size=1,
        full_size_at=0,
        keep="last",
    )
    scaler = PhotoScaler(record.mean, record.std, accelerator.device)
    examples = BoxExamples(photos, boxes, scaler, params.batch_size, seed)
    ingredients = [seed, params.model_dump(exclude={"crop", "confidence", "boxes"}), asdict(record), photos, boxes]
    job = Job(
        model=localiser.to(memory_format=torch.channels_last),
        train_batches=examples.epoch,
        steps=len(examples),
        valid_batches=None,
        epochs=params.epochs,
        seed=seed,
        checkpoints=checkpoint_folder(STAGE, "localiser", *ingredients),
        bounds=LossBounds(STAGE, "localiser", 2, training),
        params=training,
        schedule=schedule,
        step=box_step,
    )
    return fit(job, accelerator)


def _training(params: LocalizeParams) -> TrainingParams:
    return TrainingParams(
        optimizer="adamw", lr=params.lr, weight_decay=0.02, batch_size=params.batch_size, step_size=1, gamma=1, flip=0
    )


def held_out_figures(network: Answering, photos: NDArray[np.uint8], boxes: Boxes, confidence: float) -> dict[str, Any]:
    """Return how well a localiser does on photos that it was not trained on.

    Overlap with the marked boxes (IoU); the share of flukes that are found; of photos without a fluke (strips beside
    the boxes, and rows without a box) the share that is told; of photos as they are and turned by 180 degrees the share
    said to stand upside down.
    """
    there = ~np.isnan(boxes[:, 0])
    marked, shown = boxes[there], photos[there]
    answers, turned = (answers_of(network, part) for part in (shown, np.ascontiguousarray(shown[:, :, ::-1, ::-1])))
    overlap = np.diagonal(box_iou(answers[:, :4], marked))
    empty = np.concatenate([photos[~there], _strips(shown, marked)])
    without = answers_of(network, empty)[:, 4] if len(empty) else np.zeros(0)
    return {
        "flukes": int(there.sum()),
        "iou": float(overlap.mean()),
        **{f"iou_over_{least:g}": float((overlap > least).mean()) for least in _OVERLAPS},
        "found": float((answers[:, 4] >= confidence).mean()),
        "without_fluke": len(empty),
        "without_fluke_told": float((without < confidence).mean()) if len(empty) else None,
        "upright_said_upside_down": float((answers[:, 5] > 0.5).mean()),
        "turned_said_upside_down": float((turned[:, 5] > 0.5).mean()),
    }


def _strips(photos: NDArray[np.uint8], boxes: Boxes) -> NDArray[np.uint8]:
    """Return every strip beside the boxes, stretched to a photo."""
    pairs = [(row, map_onto(strip)) for row, box in enumerate(boxes) for strip in strips_beside(box)]
    if not pairs:
        return photos[:0]
    rows, maps = zip(*pairs, strict=True)
    shown = warped(torch.from_numpy(photos[list(rows)]).float(), np.stack(maps))
    return shown.round().to(torch.uint8).numpy()
