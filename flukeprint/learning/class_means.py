"""A head of very many classes from their mean embeddings: one pass over the photos, where training takes N x C.

Each class is a Gaussian around the mean of its photos, all of one covariance, a multiple of the identity (linear
discriminant analysis; Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 4.3). The logit of
class c is then linear in an embedding x:

    scale x (mean_c . x - |mean_c|^2 / 2) + log(photos of c / all photos)

The scale is the one with the least cross-entropy on validation photos.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from flukeprint.core.runtime import runtime_record
from flukeprint.learning.training import Epoch, Result
from flukeprint.metrics.spread import evenly

if TYPE_CHECKING:
    from accelerate import Accelerator

    from flukeprint.learning.rows import RowArray
    from flukeprint.learning.training_data import Labelled, TrainingData

logger = logging.getLogger(__name__)

# Photos whose embeddings are read at a time, and logits that are held to choose the scale by (64 MiB).
_PHOTOS, _LOGITS = 1024, 1 << 24
# Scales that are tried, as multiples of one over the mean squared length: even steps of the logarithm.
_SCALES = np.logspace(-2, 3, 51)


def head_of_means(data: TrainingData, member: str, accelerator: Accelerator) -> Result:
    """Return the head (weight, bias) of embeddings N x views x D; every view of a photo counts as one more photo.

    The figures of its one epoch are those of an even choice of the photos, as many as bounded memory allows.
    """
    means, counts = class_means(data.array, data.train, len(data.labels))
    half = torch.from_numpy((means**2).sum(axis=1) / 2)
    prior = torch.from_numpy(np.log(np.maximum(counts, 1) / len(data.train.rows)).astype(np.float32))
    weight = torch.from_numpy(means)
    valid, wanted = _products(data, data.valid, weight, half)
    unit = 1 / max(float(2 * half.mean()), float(np.finfo(np.float32).tiny))
    losses = [float(functional.cross_entropy(unit * one * valid + prior, wanted)) for one in _SCALES]
    best = int(np.argmin(losses))
    scale = unit * float(_SCALES[best])
    train, shown = _products(data, data.train, weight, half)
    epoch = Epoch(1, 0.0, *_figures(scale * train + prior, shown), *_figures(scale * valid + prior, wanted))
    logger.info("%s: a head of %d class means, validation loss %.4f", member, len(means), losses[best])
    state = {"weight": (scale * weight).float(), "bias": (prior - scale * half).float()}
    return Result(state, 1, [epoch], runtime_record(accelerator))


def class_means(embeddings: RowArray, train: Labelled, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the mean embedding of each class over its photos and views, C x D, zero without photos, and their number.

    In double precision and in the order of the rows: the same bits on any number of threads.
    """
    sums = np.zeros((classes, embeddings.shape[2]))
    for start in range(0, len(train.rows), _PHOTOS):
        some = slice(start, start + _PHOTOS)
        np.add.at(sums, train.targets[some], embeddings[train.rows[some]].mean(axis=1, dtype=np.float64))
    counts = np.bincount(train.targets, minlength=classes)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts


def _products(
    data: TrainingData, labelled: Labelled, weight: torch.Tensor, half: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean_c . x - |mean_c|^2 / 2 of some photos, evenly chosen, n x C, and their classes."""
    some = evenly(len(labelled.rows), max(_LOGITS // len(weight), 1))
    photos = torch.from_numpy(data.array[labelled.rows[some]][:, 0])
    return torch.addmm(-half, photos, weight.T), torch.from_numpy(labelled.targets[some])


def _figures(logits: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy."""
    right = (logits.argmax(dim=1) == targets).float().mean()
    return float(functional.cross_entropy(logits, targets)), float(right)
