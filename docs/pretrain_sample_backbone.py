"""Pretrain the sample profile's backbone: flukeprint/weights/sample_backbone.safetensors.

python -m docs.pretrain_sample_backbone

The real procedure starts from ImageNet weights. The drawn sample starts from these instead: a small torchvision
classifier that learnt to tell other drawn individuals apart. They come from SEED, the sample's from
`fetch.sample_seed` in params.yaml, so none of the sample's individuals is among them as long as the two differ.

What is drawn (SPEC): 200 individuals with ten photos each, named ones only, without ship, copies and test photos.
Nine photos of each train the network, the tenth gives the accuracy that is printed. Photo size and scaling are
those of `profiles.sample`. The last layer is left out of the file, and floats are stored as float16.
About four minutes on one core. The file in git is older than the calmer poses and light of today's flukes: it stands
for a network that has seen other photos than those it is used on, as one with ImageNet weights has.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from flukeprint.core.files import write_safetensors
from flukeprint.core.params import ProfileParams, load_params
from flukeprint.data.photos import read_rgb
from flukeprint.data.sample import SampleSpec, draw_sample
from flukeprint.learning.backbones import build_backbone
from flukeprint.learning.batches import PhotoScaler
from flukeprint.learning.networks import Classifier, embedding_size, new_head

OUTPUT = Path("flukeprint/weights/sample_backbone.safetensors")
SEED = 1_000_003
SPEC = SampleSpec(
    photos=(10,) * 200,
    new_whales=0,
    test_known=0,
    test_new=0,
    duplicates=0,
    conflicts=0,
    test_duplicates=0,
    ship=False,
)
EPOCHS = 26
BATCH_SIZE = 48
LR, WEIGHT_DECAY = 4e-3, 0.02
# Augmentation, at most: turn in radians, stretch of each axis, shift in half photos, change of gain and level.
TURN, STRETCH, SHIFT, GAIN, LEVEL = 0.1, 0.12, 0.1, 0.2, 0.3


@dataclass(frozen=True)
class Photos:
    """Decoded photos (uint8, N x 3 x H x W) and the number of the individual on each (N)."""

    pixels: NDArray[np.uint8]
    targets: torch.Tensor

    def part(self, rows: NDArray[np.bool_]) -> Photos:
        """Return the photos where `rows` is true."""
        return Photos(self.pixels[rows], self.targets[torch.from_numpy(rows)])


def main() -> None:
    """Draw, train, write the weights, print the accuracies."""
    # With one thread, sums have one order: the same machine gives the same weights again.
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    profile = load_params(["profiles"]).profiles["sample"]
    photos = drawn_photos(profile.size)
    held_out = last_of_each(photos.targets.numpy())
    train, valid = photos.part(~held_out), photos.part(held_out)
    scaler = PhotoScaler(profile.backbone.mean, profile.backbone.std, torch.device("cpu"))
    model = new_classifier(profile)
    pretrain(model, train, scaler)
    write_safetensors(OUTPUT, half_precision(model.backbone))
    figures = f"accuracy {accuracy(model, train, scaler):.3f} on photos trained on, "
    figures += f"{accuracy(model, valid, scaler):.3f} on {len(valid.pixels)} others of the same individuals"
    sys.stdout.write(f"{OUTPUT}: {OUTPUT.stat().st_size / 1e6:.2f} MB; {figures}\n")


def drawn_photos(size: tuple[int, int]) -> Photos:
    """Draw the individuals and decode their photos to `size` (height, width)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_sample(folder, SEED, SPEC)
        table = pd.read_csv(folder / "train.csv")
        pixels = np.stack([read_rgb(folder / "train", image, size) for image in table["Image"]])
    return Photos(pixels, torch.from_numpy(pd.factorize(table["Id"])[0]))


def last_of_each(individuals: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows are the last ones of their individual."""
    return ~pd.Series(individuals).duplicated(keep="last").to_numpy()


def new_classifier(profile: ProfileParams) -> Classifier:
    """Return the profile's network, randomly initialised, with a head for the individuals drawn here."""
    backbone, _ = build_backbone(profile.backbone.name, profile.size, SEED)
    features = embedding_size(backbone, profile.size, profile.backbone.name)
    return Classifier(backbone, new_head(features, len(SPEC.photos), SEED)).to(memory_format=torch.channels_last)


def pretrain(model: Classifier, photos: Photos, scaler: PhotoScaler) -> None:
    """Train all layers with cross-entropy on the individuals."""
    steps = len(photos.pixels) // BATCH_SIZE
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=EPOCHS * steps)
    model.train()
    for _ in tqdm(range(EPOCHS), "pretrain", unit="epoch"):
        order = torch.randperm(len(photos.pixels))[: steps * BATCH_SIZE]
        for rows in torch.split(order, BATCH_SIZE):
            optimizer.zero_grad()
            logits = model(augmented(scaler(torch.from_numpy(photos.pixels[rows.numpy()]))))
            torch.autograd.backward(functional.cross_entropy(logits, photos.targets[rows]))
            optimizer.step()
            schedule.step()


def augmented(inputs: torch.Tensor) -> torch.Tensor:
    """Mirror, turn, stretch and shift each photo (N x 3 x H x W) at random, and change its brightness."""
    n, (height, width) = len(inputs), inputs.shape[2:]
    angle = TURN * either_way(n)
    across, up = (1 + STRETCH * either_way(2 * n)).view(2, n)
    mirror = (torch.rand(n) < 0.5) * -2.0 + 1
    cos, sin, aspect = angle.cos(), angle.sin(), height / width
    rows = [mirror * across * cos, -aspect * across * sin, SHIFT * either_way(n)]
    rows += [up * sin / aspect, up * cos, SHIFT * either_way(n)]
    grid = functional.affine_grid(torch.stack(rows, dim=1).view(n, 2, 3), [*inputs.shape], align_corners=False)
    moved = functional.grid_sample(inputs, grid, padding_mode="border", align_corners=False)
    gain, level = (1 + GAIN * either_way(n)).view(n, 1, 1, 1), (LEVEL * either_way(n)).view(n, 1, 1, 1)
    return (moved * gain + level).contiguous(memory_format=torch.channels_last)


def either_way(n: int) -> torch.Tensor:
    """Return n random numbers in -1..1."""
    return 2 * torch.rand(n) - 1


def accuracy(model: Classifier, photos: Photos, scaler: PhotoScaler) -> float:
    """Return the share of photos whose individual is recognised."""
    model.eval()
    with torch.inference_mode():
        parts = np.array_split(photos.pixels, max(len(photos.pixels) // 128, 1))
        found = torch.cat([model(scaler(torch.from_numpy(part))).argmax(dim=1) for part in parts])
    return float((found == photos.targets).float().mean())


def half_precision(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict, contiguous, with floats as float16 and without BatchNorm's counters of batches."""
    state = {key: value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    return {key: value.half().contiguous() for key, value in state.items()}


if __name__ == "__main__":
    main()
