"""Params and networks for tests of training: the values of params.yaml with changes, small backbones."""

from pathlib import Path
from typing import Any

import yaml

from flukeprint.core.params import RuntimeParams, check_params
from flukeprint.core.training_params import FinetuneParams, TrainingParams

RUNTIME = RuntimeParams(
    device="cpu", precision="auto", processes=1, threads=2, workers=1, batch_size=32, engine="local", address=None
)
CONTENT = yaml.safe_load((Path(__file__).parent.parent / "params.yaml").read_text())


def finetune_params(**changes: Any) -> FinetuneParams:
    """Return the section with some values changed; those of a nested section are given as a mapping."""
    section = check_params(CONTENT).finetune.model_dump()
    for key, value in changes.items():
        section[key] = section[key] | value if isinstance(value, dict) else value
    return FinetuneParams.model_validate(section)


def beyond_bounds(params: Any, **changes: Any) -> Any:
    """Return a section with values that params.yaml may not have; those of a nested section are given as a mapping."""
    nested = {
        key: beyond_bounds(getattr(params, key), **value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return params.model_copy(update=nested)


def finetune(*arguments: Any) -> Any:
    """Run what `finetuning_job` makes of these arguments, whose last one is the accelerator."""
    from flukeprint.learning.finetuning import finetuning_job
    from flukeprint.learning.training import fit

    return fit(finetuning_job(*arguments), arguments[-1])


def training_params(**changes: Any) -> TrainingParams:
    """Return the section `train` with some values changed."""
    return TrainingParams.model_validate(check_params(CONTENT).train.model_dump() | changes)


def embedding_job_of(network: Any, batch_size: int = 8, features: int = 512) -> Any:
    """Return a job that embeds photos with a network as it is, on the CPU."""
    from flukeprint.core.runtime import open_accelerator
    from flukeprint.learning.batches import PhotoScaler
    from flukeprint.learning.embedding import EmbeddingJob

    accelerator = open_accelerator(RUNTIME)
    return EmbeddingJob(
        network, PhotoScaler((0.5,) * 3, (0.25,) * 3, accelerator.device), features, batch_size, accelerator
    )


def random_backbone(
    name: str = "resnet18", size: tuple[int, int] = (32, 32), seed: int = 0, *, folded: bool = False
) -> tuple[Any, Any]:
    """Return a backbone with random weights and its record, in eval mode."""
    from flukeprint.learning.backbones import build_backbone
    from flukeprint.learning.batchnorm_folding import fold_batchnorm
    from flukeprint.learning.networks import embedding_size
    from flukeprint.learning.records import BackboneRecord

    network, last = build_backbone(name, size, seed)
    if folded:
        fold_batchnorm(network, size)
    features = embedding_size(network, size, name)
    return network, BackboneRecord(name, "random", "", (0.5,) * 3, (0.25,) * 3, size, features, last, folded)
