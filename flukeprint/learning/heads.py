"""Linear heads trained on cached embeddings, and the metrics of any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.core.files import write_figures
from flukeprint.core.replacement import replacing_folder
from flukeprint.core.runtime import derived_seed
from flukeprint.learning.batches import Batches, batch_shape, choose_views
from flukeprint.learning.checkpoints import checkpoint_folder, clear_checkpoints
from flukeprint.learning.class_means import head_of_means
from flukeprint.learning.divergence import LossBounds
from flukeprint.learning.network_files import save_head
from flukeprint.learning.networks import new_head
from flukeprint.learning.training import Job, Result, fit

if TYPE_CHECKING:
    from accelerate import Accelerator

    from flukeprint.core.training_params import TrainingParams
    from flukeprint.learning.training_data import TrainingData
    from flukeprint.metrics.spread import Spread


@dataclass(frozen=True)
class HeadTraining:
    """How heads are trained in one stage: `stage` names the checkpoints and keeps the members' seeds apart."""

    stage: str
    params: TrainingParams
    epochs: int
    seed: int
    accelerator: Accelerator
    most_classes: int | None = None  # more classes get their means (class_means.py); None: all are trained


def train_head(data: TrainingData, member: str, training: HeadTraining) -> Result:
    """Train one member's linear head D -> classes on fixed embeddings; return its best state (weight, bias)."""
    if training.most_classes is not None and len(data.labels) > training.most_classes:
        return head_of_means(data, f"{training.stage} {member}", training.accelerator)
    params, accelerator = training.params, training.accelerator
    seed = derived_seed(training.seed, training.stage, member)
    train, valid = (Batches(data.array, part, choose_views, accelerator) for part in (data.train, data.valid))
    ingredients = [seed, params.model_dump(), training.epochs, *data.ingredients()]
    job = Job(
        model=new_head(data.array.shape[2], len(data.labels), derived_seed(seed, "init")),
        train_batches=lambda epoch: train.shuffled(params.batch_size, params.flip, seed, epoch),
        steps=max(1, batch_shape(len(data.train.rows), params.batch_size)[0]),
        valid_batches=lambda: valid.in_order(4 * params.batch_size),
        epochs=training.epochs,
        seed=seed,
        checkpoints=checkpoint_folder(training.stage, member, *ingredients),
        bounds=LossBounds(training.stage, member, len(data.labels), params),
        params=params,
        recordable=True,
    )
    return fit(job, accelerator)


def train_heads(
    heads: Path, metrics: Path, data_of: Callable[[str], TrainingData], members: Sequence[str], training: HeadTraining
) -> None:
    """Train every member's head and write `<member>.safetensors` into `heads` and `<member>.json` into `metrics`.

    A member's bytes do not depend on which other members there are.
    """
    with replacing_folder(heads) as new_heads, replacing_folder(metrics) as new_metrics:
        for member in members:
            data = data_of(member)
            result = train_head(data, member, training)
            save_head(new_heads / f"{member}.safetensors", result, data.labels)
            save_record(new_metrics / f"{member}.json", result)
    clear_checkpoints(training.stage)


def save_record(path: Path, result: Result, spread: Spread | None = None) -> None:
    """Write a training's metrics: the best epoch's figures, the spread's, the curve for `dvc plots`, the runtime."""
    best = asdict(result.history[result.best_epoch - 1])
    figures = {key: value for key, value in best.items() if key not in ("epoch", "lr")}
    more = {} if spread is None else {"spread": asdict(spread)}
    history = [asdict(epoch) for epoch in result.history]
    kept = {"best_epoch": result.best_epoch, **figures, **more}
    write_figures(path, {**kept, "history": history, "runtime": result.runtime})
