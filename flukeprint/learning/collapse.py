"""Whether a trained network still tells photos apart: it is asked right after its training, not hours later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flukeprint.learning.embedding import embed
from flukeprint.metrics.spread import Spread, spread_of

if TYPE_CHECKING:
    from flukeprint.learning.embedding import EmbeddingJob
    from flukeprint.learning.training_data import TrainingData

# Photos that are embedded for it: enough for a mean, few enough to cost nothing beside the training.
_MOST = 512


def trained_spread(job: EmbeddingJob, data: TrainingData) -> Spread | None:
    """Measure the spread of the embeddings of some training photos; None where they show one class only."""
    some = np.unique(np.linspace(0, len(data.train.rows) - 1, min(len(data.train.rows), _MOST)).round().astype(int))
    embeddings = embed(job, data.array[data.train.rows[some]], 1)[:, 0]
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return spread_of(embeddings / np.maximum(lengths, np.finfo(np.float32).tiny), data.train.targets[some])
